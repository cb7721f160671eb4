"""Health: alive means that the process answers, ready means that it could serve a request now."""

import asyncio
from typing import Protocol

import msgspec

READY_TIMEOUT_S = 2


class Pingable(Protocol):
    """Something that a trivial question can be put to, like a database pool."""

    async def fetchval(self, query: str) -> object:
        """Run a statement and return its first value."""
        ...


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and each check by name."""

    ready: bool
    checks: dict[str, str]


async def readiness(db: Pingable, *, draining: bool) -> Readiness:
    """Check what every request needs; a process that is draining takes no new ones."""
    checks = {"postgres": await _postgres(db), "draining": "yes" if draining else "no"}
    return Readiness(ready=checks["postgres"] == "ok" and not draining, checks=checks)


async def _postgres(db: Pingable) -> str:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await db.fetchval("SELECT 1")
    except Exception as error:  # any failure is the answer
        return f"unavailable ({type(error).__name__})"
    return "ok"
