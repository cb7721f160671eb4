#!/bin/sh
# Makes sure that programs which are no Python packages are there: installs them on Debian as root, names them elsewhere.
#
#     deploy/system-tools.sh redis-server nginx nghttp2-client:h2load
#
# Each argument is a Debian package with a command of the same name, or of the name after the colon.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

missing=""
for tool in "$@"; do
    command -v "${tool#*:}" >/dev/null 2>&1 || missing="$missing ${tool%%:*}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 - one word a package
    apt-get install -q -y --no-install-recommends $missing
else
    echo "missing:$missing. Tests that need them will say so; on Debian: sudo apt-get install$missing" >&2
fi
