"""Hears what changed, so that a revoked key stops within a second on every gateway.

Triggers announce every change of a key, an account or a plan inside the changing transaction. The listener has a
connection of its own and asks on it three times a second whether it is alive: a network that died in silence
must not keep a revoked key alive, so the cache may answer only for a short while after each proof.
"""

import asyncio
from typing import Any

from gateway.clock import monotonic_s
from gateway.db.pool import Connection, is_operational, open_connection
from gateway.keys.cache import KeyCache
from gateway.keys.store import ping
from gateway.runtime.logging import describe, get_logger
from gateway.runtime.settings import Limits

CHANNEL = "nusagate_changed"
PING_EVERY_S = 0.3
PING_TIMEOUT_S = 0.3
RECONNECT_AFTER_S = 0.2

LEASE_S = 0.8
"""How long the cache may answer after a proof of life was asked for: longer than one ping may take, shorter than
the second within which a revoked key must stop."""

log = get_logger("keys")


class ChangeListener:
    """Keeps one cache honest; ``run`` it as a task for as long as the process serves."""

    def __init__(self, database_url: str, limits: Limits, cache: KeyCache, *, application: str) -> None:
        self._database_url = database_url
        self._limits = limits
        self._cache = cache
        self._application = application

    async def run(self) -> None:
        """Listen until cancelled, and connect again whenever the connection is lost."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # the cache stays closed and we try again
                log.warning(
                    "listener lost",
                    state="operational" if is_operational(error) else "bug",
                    **describe(error),
                )
            await asyncio.sleep(RECONNECT_AFTER_S)

    async def _listen(self) -> None:
        connection = await open_connection(self._database_url, self._limits, application=self._application)
        try:
            await connection.add_listener(CHANNEL, self._heard)
            # What was read before we listened may have changed unheard.
            self._cache.clear()
            while True:
                await self._prove(connection)
                await asyncio.sleep(PING_EVERY_S)
        finally:
            self._cache.clear()
            connection.terminate()

    async def _prove(self, connection: Connection) -> None:
        """Extend the lease, counted from before the question, so that a slow answer makes it no longer."""
        asked_s = monotonic_s()
        await ping(connection, timeout_s=PING_TIMEOUT_S)
        self._cache.lease(asked_s + LEASE_S)

    def _heard(self, _connection: Any, _pid: int, _channel: str, announcement: object) -> None:
        self._cache.forget(str(announcement))
