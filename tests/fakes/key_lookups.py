"""What the tests of keys watch: how often Postgres was asked, and caches that nobody or somebody keeps honest."""

import asyncio
from contextlib import asynccontextmanager

from gateway.clock import monotonic_s
from gateway.keys.cache import KeyCache
from gateway.keys.listener import ChangeListener
from gateway.runtime.settings import Limits

ENDLESS = Limits(key_cache_s=3600, unknown_key_cache_s=3600)
"""Nothing leaves the cache because its time is over."""

DEADLINE_S = 20


class CountingDb:
    """The pool, with its look-ups counted, and held back between their answer and its reader while ``held``."""

    def __init__(self, pool):
        self.pool = pool
        self.lookups = 0
        self.answered = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def fetchrow(self, *arguments):
        self.lookups += 1
        row = await self.pool.fetchrow(*arguments)
        self.answered.set()
        await self.released.wait()
        return row

    async def execute(self, *arguments):
        return await self.pool.execute(*arguments)


def trusting(limits=ENDLESS) -> KeyCache:
    """A cache that is never told that the line is dead."""
    cache = KeyCache(limits)
    cache.lease(monotonic_s() + 3600)
    return cache


async def until(is_so) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - what tests wait for has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def listener_of(cache, database_url):
    task = asyncio.create_task(ChangeListener(database_url, ENDLESS, cache, application="the listener").run())
    await until(lambda: cache.leased(monotonic_s()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
