"""Whether Postgres answers, known within a fraction of a second, so that nobody waits for a database that is gone.

A connection of its own asks a trivial question ten times a second. Two questions in a row without an answer, or one
that is refused, mean that Postgres is down; from then on requests are refused at once instead of hanging until a
statement's deadline, and settlements go to the local spool.
"""

import asyncio
from collections.abc import Callable

from gateway.db.pool import Connection, open_connection
from gateway.runtime import metrics
from gateway.runtime.logging import describe, get_logger
from gateway.runtime.settings import Limits

log = get_logger("database")

PING_EVERY_S = 0.1
PING_TIMEOUT_S = 0.2
RECONNECT_EVERY_S = 0.1
CONNECT_TIMEOUT_S = 1
MISSES_MEAN_DOWN = 2


class DatabaseHealth:
    """Watches Postgres; ``on_down`` and ``on_up`` are called when that changes."""

    def __init__(self, database_url: str, limits: Limits) -> None:
        self.down = False
        self.on_down: list[Callable[[], None]] = []
        self.on_up: list[Callable[[], None]] = []
        self._database_url = database_url
        self._limits = limits

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    connection = await open_connection(
                        self._database_url, self._limits, application="nusagate-health"
                    )
            except Exception as error:  # whatever it is, nobody else will get a connection either
                self._set_down(error)
                await asyncio.sleep(RECONNECT_EVERY_S)
                continue
            try:
                await self._ask(connection)
            except Exception as error:  # the connection is lost, or two questions were not answered
                self._set_down(error)
            finally:
                connection.terminate()

    async def _ask(self, connection: Connection) -> None:
        misses = 0
        while True:
            try:
                await connection.fetchval("SELECT 1", timeout=PING_TIMEOUT_S)
            except TimeoutError:
                misses += 1
                if misses == MISSES_MEAN_DOWN:
                    raise
                continue
            misses = 0
            self._set_up()
            await asyncio.sleep(PING_EVERY_S)

    def _set_down(self, error: BaseException) -> None:
        if self.down:
            return
        self.down = True
        metrics.database_up.set(0)
        log.error("database down", **describe(error))
        for notify in self.on_down:
            notify()

    def _set_up(self) -> None:
        metrics.database_up.set(1)
        if not self.down:
            return
        self.down = False
        log.warning("database up")
        for notify in self.on_up:
            notify()
