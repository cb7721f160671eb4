"""Named places where a test lets the process die, to prove that nothing is lost there.

``NUSAGATE_FAILPOINT`` names one, or ``name:N`` for its Nth hit; the process then ends at once, with no clean-up of any
kind, as if it were killed. Without the variable a failpoint is one look at a constant.
"""

import os
from typing import Final

EXIT_STATUS: Final = 86

NAMES: Final = frozenset(
    {
        "request.after_hold",
        "request.before_send",
        "request.after_upstream_headers",
        "request.in_event",
        "request.after_usage",
        "request.before_commit",
        "request.after_commit",
        "request.before_last_byte",
        "request.after_last_byte",
        "request.after_redis_hold",
        "request.after_redis_settle",
        "spool.after_write",
        "spool.before_replay",
        "spool.after_replay",
        "sweeper.before_commit",
        "sweeper.after_commit",
        "sync.in_freeze",
        "sync.after_freeze",
        "sync.after_lease",
        "sync.before_post",
        "sync.after_post",
        "sync.before_accept",
        "sync.after_accept",
        "reconcile.before_commit",
        "reconcile.after_commit",
        "correct.before_post",
        "correct.after_post",
        "correct.after_commit",
    }
)
"""All of them, so that a test can go through the whole list."""


def _armed() -> tuple[str, int]:
    name, _, nth = os.environ.get("NUSAGATE_FAILPOINT", "").partition(":")
    if name and name not in NAMES:
        raise ValueError(f"NUSAGATE_FAILPOINT names {name!r}, which is not a failpoint")
    return name, int(nth or 1)


_ARMED, _NTH = _armed()
_hits = 0


def failpoint(name: str) -> None:
    """End the process here if a test asked for it."""
    if name == _ARMED:
        _hit()


def _hit() -> None:
    global _hits  # noqa: PLW0603 - a process dies once
    _hits += 1
    if _hits == _NTH:
        os._exit(EXIT_STATUS)
