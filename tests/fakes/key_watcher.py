"""Another gateway process, reduced to its keys: it presents one key again and again until that is refused.

    python key_watcher.py DATABASE_URL API_KEY PEPPER

It prints ``working`` when the key was answered from the cache, and the error's code when it was refused.
"""

import asyncio
import sys

from gateway.clock import SystemClock, monotonic_s
from gateway.db.pool import open_pool
from gateway.errors import NusagateError
from gateway.keys.cache import KeyCache
from gateway.keys.listener import ChangeListener
from gateway.keys.service import KeyService
from gateway.runtime.settings import Limits

# A cache that would keep the key for an hour: only the listener can stop it sooner.
LIMITS = Limits(key_cache_s=3600)


async def watch(database_url: str, api_key: str, pepper: str) -> None:
    cache = KeyCache(LIMITS)
    pool = await open_pool(database_url, LIMITS, application="key watcher")
    listening = asyncio.create_task(ChangeListener(database_url, LIMITS, cache, application="watch").run())
    service = KeyService(pool, SystemClock(), {1: pepper.encode()}, cache)
    while not cache.leased(monotonic_s()):  # noqa: ASYNC110 - a lease is a time, not an event
        await asyncio.sleep(0.005)
    await service.authenticate(api_key)
    sys.stdout.write("working\n")
    sys.stdout.flush()
    try:
        while True:
            await service.authenticate(api_key)
            await asyncio.sleep(0.005)
    except NusagateError as error:
        sys.stdout.write(f"{error.code}\n")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await pool.close()


asyncio.run(watch(*sys.argv[1:]))
