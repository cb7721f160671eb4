#!/bin/sh
# Makes .venv exactly as uv.lock says: every package pinned, every download checked against its hash.
#
# A machine needs Python 3.11-3.13 and pip (or venv) and nothing else. The installer, uv, is pinned by hash too and
# lives in .venv-uv, so that it neither depends on one that is on the PATH nor is removed by its own sync.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $1" >&2
    exit 1
}

# Prints the interpreter behind a command (a shim, a link, a venv's own) if its version fits.
base_python() {
    "$1" -c '
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(1)
print(sys._base_executable)' 2>/dev/null
}

# An environment that exists keeps its Python, unless PYTHON names another one.
python=""
for candidate in ${PYTHON:-.venv/bin/python python3.13 python3.12 python3.11 python3}; do
    if python=$(base_python "$candidate"); then break; fi
done
[ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 found (${PYTHON:-python3}); install one, or name it: make setup PYTHON=/path/to/python3"

wanted=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' deploy/uv.txt)
uv=.venv-uv/bin/uv
if ! "$uv" --version 2>/dev/null | grep -q "^uv $wanted\b"; then
    rm -rf .venv-uv
    if "$python" -m pip --version >/dev/null 2>&1; then
        PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --target .venv-uv --requirement deploy/uv.txt
    elif "$python" -m venv .venv-uv >/dev/null 2>&1; then
        .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --requirement deploy/uv.txt
    else
        rm -rf .venv-uv
        fail "$python has neither pip nor venv; on Debian: apt-get install python3-venv"
    fi
    echo '*' > .venv-uv/.gitignore
fi

# Only this checkout's environment and only the Python chosen above, whatever the caller's shell has set.
unset VIRTUAL_ENV UV_PYTHON UV_SYSTEM_PYTHON
UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never "$uv" sync --locked --compile-bytecode --python "$python"
