"""Health: alive means that the process answers, ready means that it could serve a request now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

READY_TIMEOUT_S = 2


Ping: TypeAlias = Callable[[], Awaitable[None]]
"""A trivial question to something that every request needs; any exception means no."""


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and each check by name."""

    ready: bool
    checks: dict[str, str]


async def readiness(ping: Ping, *, draining: bool) -> Readiness:
    """Check what every request needs; a process that is draining takes no new ones."""
    checks = {"postgres": await _postgres(ping), "draining": "yes" if draining else "no"}
    return Readiness(ready=checks["postgres"] == "ok" and not draining, checks=checks)


async def _postgres(ping: Ping) -> str:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await ping()
    except Exception as error:  # any failure is the answer
        return f"unavailable ({type(error).__name__})"
    return "ok"
