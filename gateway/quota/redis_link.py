"""One connection to Redis, for all calls of a process: batched, with a deadline, and never trusted after a doubt.

While one pipeline is on the wire, the next one gathers (``gateway.runtime.batcher``), so one connection is enough, and no
call ever waits for another one's turn in a pool. A connection on which anything went wrong (late, cut, cancelled, an
error in a reply) is closed and never read again: a reply that comes late cannot reach the wrong caller.

Every script is told the identity of the server that runs it, read when the connection was made: its ``run_id``, which
changes with every start, and its replication id, which changes with every promotion. State that bears another identity
comes from an old dump or from a former primary, and is not believed. A connection is to one process for all its life;
that it has become a replica, or was promoted again, is asked once a second.

After a failure the link is down: calls fail at once, and a task of its own tries to connect until Redis answers in time.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from gateway.clock import monotonic_s
from gateway.errors import NusagateError
from gateway.quota.redis_scripts import DIGESTS, SCRIPTS, ScriptCall
from gateway.quota.redis_server import (
    CONNECT_TIMEOUT_S,
    PRIMARY,
    RedisUnavailable,
    Reply,
    exchange,
    make_connection,
    open_connection,
    server_info,
)
from gateway.runtime.batcher import Batcher, QueueFull
from gateway.runtime.logging import describe, get_logger
from gateway.runtime.settings import Limits

log = get_logger("redis")

RECONNECT_EVERY_S = 0.1
IDENTIFY_EVERY_S = 1


class RedisLink:
    """Runs scripts on a Redis; ``on_change`` hears whether it is up, and is called before the first call after that."""

    def __init__(self, url: str, limits: Limits) -> None:
        self.up = False
        self.on_change: list[Callable[[bool, str], None]] = []
        self._timeout_s = limits.redis_timeout_s
        self._connection = make_connection(url)
        self._identity = ""
        self._identified_s = -math.inf
        self._mending: asyncio.Task[None] | None = None
        self._batcher: Batcher[ScriptCall, Reply] = Batcher(
            self._flush,
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            is_poison=lambda _error: False,
        )

    async def open(self) -> None:
        """Try to connect; a Redis that is not there is waited for in the background."""
        try:
            await self._mend_once()
        except Exception as error:  # whatever is wrong with it, the limits are decided without it
            await self._connection.disconnect(nowait=True)
            self._go_down(error)

    def submit(self, call: ScriptCall) -> "asyncio.Future[Reply]":
        """Send a call with the next pipeline; ``RedisUnavailable`` at once when the link is down."""
        if not self.up:
            raise RedisUnavailable
        try:
            return self._batcher.submit(call)
        except QueueFull as error:
            raise RedisUnavailable from error

    async def close(self) -> None:
        """Finish the calls under way and close the connection."""
        await self._batcher.close()
        self.up = False
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    async def _flush(self, calls: list[ScriptCall]) -> Sequence[Reply]:
        if not self.up:
            raise RedisUnavailable
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._run(calls)
        except asyncio.CancelledError:
            self.up = False
            await self._connection.disconnect(nowait=True)
            raise
        except Exception as error:
            await self._connection.disconnect(nowait=True)
            self._go_down(error)
            raise RedisUnavailable from error

    async def _run(self, calls: list[ScriptCall]) -> Sequence[Reply]:
        if monotonic_s() - self._identified_s > IDENTIFY_EVERY_S:
            await self._identify()
        return await exchange(
            self._connection,
            [
                (
                    "EVALSHA",
                    DIGESTS[call.script],
                    len(call.keys),
                    *call.keys,
                    self._identity,
                    *call.arguments,
                )
                for call in calls
            ],
        )

    async def _identify(self) -> None:
        """Ask the server who it is; a connection whose server is no longer the same is not used."""
        info = await server_info(self._connection)
        if info.role != PRIMARY:
            raise RedisUnavailable(f"Redis is a {info.role}.")
        if self.up and info.identity != self._identity:
            raise RedisUnavailable("Redis was promoted.")
        self._identity = info.identity
        self._identified_s = monotonic_s()

    def _go_down(self, error: Exception) -> None:
        cause = error.message if isinstance(error, RedisUnavailable) else type(error).__name__
        was_up, self.up = self.up, False
        if was_up or self._mending is None:
            for notify in self.on_change:
                notify(False, cause)
        if self._mending is None:
            self._mending = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        while not self.up:
            await asyncio.sleep(RECONNECT_EVERY_S)
            try:
                await self._mend_once()
            except (RedisError, OSError, TimeoutError, NusagateError):
                await self._connection.disconnect(nowait=True)
            except Exception as error:  # a reply that nobody expected: no reason to stop trying
                log.error("redis not usable", **describe(error))
                await self._connection.disconnect(nowait=True)
        self._mending = None

    async def _mend_once(self) -> None:
        """Connect, bring the scripts, and see that the server answers within a call's deadline."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await open_connection(self._connection)
            await exchange(self._connection, [("SCRIPT", "LOAD", text) for text in SCRIPTS.values()])
        async with asyncio.timeout(self._timeout_s):
            await self._identify()
        self.up = True
        for notify in self.on_change:
            notify(True, "connected")
