"""A revoked key stops within a second on every gateway, and any change of an account or a plan is heard."""

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus, LimitName
from gateway.clock import SystemClock, monotonic_s
from gateway.keys import service
from gateway.keys.cache import KeyCache
from gateway.keys.model import AccountSuspended, InvalidApiKey
from gateway.keys.service import KeyService
from tests.fakes.key_lookups import DEADLINE_S, ENDLESS, CountingDb, listener_of, until

WATCHER = Path(__file__).parents[1] / "fakes" / "key_watcher.py"


@pytest.fixture
def counting(seeded):
    return CountingDb(seeded)


async def refused(keys, api_key, error) -> None:
    """Return when a key that worked is refused."""

    async def use_for_ever():
        while True:
            await keys.authenticate(api_key)
            await asyncio.sleep(0.005)

    with pytest.raises(error):
        await asyncio.wait_for(use_for_ever(), DEADLINE_S)


async def test_a_revoked_key_stops_although_its_record_is_cached(
    counting, clock, peppers, database_url, sari
):
    cache = KeyCache(ENDLESS)
    keys = KeyService(counting, clock, peppers, cache)
    async with listener_of(cache, database_url):
        await keys.authenticate(sari.api_key)
        await service.revoke_key(counting.pool, clock, sari.key_id, account_id=None)
        await refused(keys, sari.api_key, InvalidApiKey)


async def test_a_suspended_account_stops_and_a_resumed_one_works(
    counting, clock, peppers, database_url, sari
):
    cache = KeyCache(ENDLESS)
    keys = KeyService(counting, clock, peppers, cache)
    async with listener_of(cache, database_url):
        await keys.authenticate(sari.api_key)
        await accounts.set_status(counting.pool, sari.account_id, AccountStatus.SUSPENDED)
        await refused(keys, sari.api_key, AccountSuspended)
        before = counting.lookups
        await accounts.set_status(counting.pool, sari.account_id, AccountStatus.ACTIVE)
        await until(lambda: len(cache) == 0)
        await keys.authenticate(sari.api_key)
        assert counting.lookups == before + 1


async def test_new_limits_of_an_account_and_of_a_plan_are_heard(counting, clock, peppers, database_url, sari):
    cache = KeyCache(ENDLESS)
    keys = KeyService(counting, clock, peppers, cache)
    async with listener_of(cache, database_url):
        assert (await keys.authenticate(sari.api_key)).limits.concurrency == 20
        await accounts.set_limits(counting.pool, sari.account_id, overrides={LimitName.CONCURRENCY: 7})
        await until(lambda: len(cache) == 0)
        assert (await keys.authenticate(sari.api_key)).limits.concurrency == 7
        await counting.pool.execute("UPDATE plan SET monthly_tokens = 5 WHERE plan_id = 'free'")
        await until(lambda: len(cache) == 0)
        assert (await keys.authenticate(sari.api_key)).limits.monthly_tokens == 5


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_refused(
    counting, clock, peppers, database_url, sari
):
    cache = KeyCache(ENDLESS)
    keys = KeyService(counting, clock, peppers, cache)
    async with listener_of(cache, database_url):
        counting.released.clear()
        asking = asyncio.create_task(keys.authenticate(sari.api_key))
        await counting.answered.wait()
        heard = cache.epoch
        await service.revoke_key(counting.pool, clock, sari.key_id, account_id=None)
        await until(lambda: cache.epoch > heard)
        counting.released.set()
        with pytest.raises(InvalidApiKey):
            await asking
        with pytest.raises(InvalidApiKey):
            await keys.authenticate(sari.api_key)


async def test_a_revocation_that_the_listener_missed_is_obeyed(counting, clock, peppers, database_url, sari):
    cache = KeyCache(ENDLESS)
    keys = KeyService(counting, clock, peppers, cache)
    async with listener_of(cache, database_url):
        await keys.authenticate(sari.api_key)
        async with counting.pool.acquire() as connection, connection.transaction():
            await service.revoke_key(connection, clock, sari.key_id, account_id=None)
            # The listener is gone before the revocation commits, so nobody hears of it.
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'the listener' AND datname = current_database()"
            )
        await refused(keys, sari.api_key, InvalidApiKey)
        await until(lambda: cache.leased(monotonic_s()))


async def test_while_nobody_listens_every_look_up_goes_to_postgres(counting, clock, peppers, sari):
    keys = KeyService(counting, clock, peppers, KeyCache(ENDLESS))
    for _ in range(3):
        await keys.authenticate(sari.api_key)
    assert counting.lookups == 3


async def test_a_key_revoked_here_stops_in_another_process(seeded, database_url, peppers, sari):
    watcher = await asyncio.create_subprocess_exec(
        sys.executable,
        WATCHER,
        database_url,
        sari.api_key,
        peppers[1].decode(),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        assert await watcher.stdout.readline() == b"working\n"
        await service.revoke_key(seeded, SystemClock(), sari.key_id, account_id=None)
        assert await watcher.stdout.readline() == b"invalid_api_key\n"
        assert await watcher.wait() == 0
