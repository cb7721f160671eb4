"""Keys in Postgres: presented, cached, revoked, rotated, and marked as used."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountNotFound, AccountStatus, LimitName
from gateway.db.pool import DatabaseUnavailable, open_pool
from gateway.errors import InvalidValue
from gateway.keys import service
from gateway.keys.model import (
    AccountSuspended,
    Endpoint,
    ExpiredApiKey,
    InvalidApiKey,
    KeyNotActive,
    KeyNotFound,
    KeyScopes,
    KeyStatus,
    MissingApiKey,
    PaymentRequired,
    TooManyKeys,
)
from gateway.keys.service import KeyService, LastUsed
from gateway.keys.text import derive_key, generate_key
from gateway.plans.model import AccountLimits, Billing, OnDisconnect
from gateway.runtime.settings import Limits
from tests.fakes.key_lookups import CountingDb, trusting


@pytest.fixture
def counting(seeded):
    return CountingDb(seeded)


@pytest.fixture
def keys(counting, clock, peppers):
    """A gateway's keys, without a listener."""
    return KeyService(counting, clock, peppers, trusting())


async def make(db, clock, peppers, owner, **scopes):
    return await service.create_key(
        db, clock, peppers, account_id=owner.account_id, scopes=KeyScopes(**scopes)
    )


async def rotate(db, clock, peppers, key_id, *, grace=timedelta(0), account_id=None):
    async with db.acquire() as connection, connection.transaction():
        return await service.rotate_key(
            connection, clock, peppers, key_id, account_id=account_id, grace=grace
        )


# ------------------------------------------------------------------ presenting a key


async def test_a_key_brings_all_that_admission_needs_in_one_query(counting, keys, clock, peppers, sari):
    seeded = counting.pool
    made = await make(
        seeded,
        clock,
        peppers,
        sari,
        name="laptop",
        expires_at=clock.now() + timedelta(days=30),
        monthly_tokens=500,
        models=("nusantara-base",),
        endpoints=(Endpoint.RESPONSES,),
        ip_ranges=("203.0.113.0/24", "2001:db8::/64"),
    )
    await accounts.set_limits(seeded, sari.account_id, overrides={LimitName.CONCURRENCY: 7})
    record = await keys.authenticate(made.text)
    assert counting.lookups == 1
    assert (record.key_id, record.account_id, record.name) == (made.key_id, sari.account_id, "laptop")
    assert record.prefix + record.last4 == made.text[:13] + made.text[-4:]
    assert (record.plan_id, record.billing, record.on_disconnect) == (
        "free",
        Billing.FREE,
        OnDisconnect.DRAIN,
    )
    assert record.limits == AccountLimits(monthly_tokens=10_000, requests_per_minute=20, concurrency=7)
    assert record.monthly_tokens == 500
    assert record.models == {"nusantara-base"}
    assert record.endpoints == {"responses"}
    assert [str(network) for network in record.networks] == ["203.0.113.0/24", "2001:db8::/64"]
    assert record.expires_at == clock.now() + timedelta(days=30)


async def test_a_known_key_costs_no_query(counting, keys, sari):
    first = await keys.authenticate(sari.api_key)
    assert await keys.authenticate(sari.api_key) is first
    assert counting.lookups == 1


async def test_a_malformed_key_costs_no_query(counting, keys):
    for garbage in ("nsk_live_garbage", "x" * 47, "sk-" + "a" * 44):
        with pytest.raises(InvalidApiKey):
            await keys.authenticate(garbage)
    with pytest.raises(MissingApiKey):
        await keys.authenticate("")
    assert counting.lookups == 0


async def test_an_unknown_key_is_asked_for_once(counting, keys, seeded):
    stranger = generate_key()
    for _ in range(3):
        with pytest.raises(InvalidApiKey):
            await keys.authenticate(stranger)
    assert counting.lookups == 1


async def test_two_thousand_first_uses_at_once_are_one_query(counting, keys, sari):
    records = await asyncio.gather(*(keys.authenticate(sari.api_key) for _ in range(2_000)))
    assert {record.key_id for record in records} == {sari.key_id}
    assert counting.lookups == 1


async def test_who_gives_up_waiting_stops_nobody_else(counting, keys, sari):
    counting.released.clear()
    impatient = asyncio.create_task(keys.authenticate(sari.api_key))
    patient = asyncio.create_task(keys.authenticate(sari.api_key))
    await counting.answered.wait()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    counting.released.set()
    assert (await patient).key_id == sari.key_id
    assert counting.lookups == 1


async def test_everybody_keeps_their_own_key(keys, sari, budi):
    records = await asyncio.gather(
        *(keys.authenticate(person.api_key) for person in (sari, budi) for _ in range(50))
    )
    assert [record.account_id for record in records] == [sari.account_id] * 50 + [budi.account_id] * 50


async def test_what_is_stored_of_a_key_does_not_contain_it(seeded, sari):
    stored = str(await seeded.fetchrow("SELECT * FROM api_key WHERE key_id = $1", sari.key_id))
    assert sari.api_key[13:-4] not in stored


async def test_a_cached_key_expires_at_its_moment(seeded, keys, clock, peppers, sari):
    made = await make(seeded, clock, peppers, sari, expires_at=clock.now() + timedelta(hours=1))
    await keys.authenticate(made.text)
    clock.move(timedelta(hours=1))
    with pytest.raises(ExpiredApiKey):
        await keys.authenticate(made.text)


@pytest.mark.parametrize(
    ("status", "error"),
    [(AccountStatus.SUSPENDED, AccountSuspended), (AccountStatus.PAYMENT_REQUIRED, PaymentRequired)],
)
async def test_the_keys_of_a_stopped_account_are_refused(seeded, keys, sari, status, error):
    await accounts.set_status(seeded, sari.account_id, status)
    with pytest.raises(error):
        await keys.authenticate(sari.api_key)


async def test_without_postgres_a_key_that_is_not_at_hand_is_no_bad_key(database_url, clock, peppers):
    pool = await open_pool(database_url, Limits(), application="closed")
    await pool.close()
    keys = KeyService(pool, clock, peppers, trusting())
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(generate_key())


# ------------------------------------------------------------------ peppers


async def test_a_key_under_an_old_pepper_works_and_moves_to_the_newest(
    seeded, counting, clock, peppers, sari
):
    both = {**peppers, 2: b"the second pepper of the tests"}
    record = await KeyService(counting, clock, both, trusting()).authenticate(sari.api_key)
    assert record.key_id == sari.key_id
    version = await seeded.fetchval("SELECT pepper_version FROM api_key WHERE key_id = $1", sari.key_id)
    assert version == 2
    newest = KeyService(counting, clock, {2: both[2]}, trusting())
    assert (await newest.authenticate(sari.api_key)).key_id == sari.key_id


async def test_a_key_under_a_forgotten_pepper_is_unknown(counting, clock, sari):
    keys = KeyService(counting, clock, {2: b"the second pepper of the tests"}, trusting())
    with pytest.raises(InvalidApiKey):
        await keys.authenticate(sari.api_key)


# ------------------------------------------------------------------ making, listing, revoking


async def test_a_key_for_nobody_cannot_be_made(seeded, clock, peppers, sari):
    nobody = msgspec.structs.replace(sari, account_id=uuid4())
    with pytest.raises(AccountNotFound, match=str(nobody.account_id)):
        await make(seeded, clock, peppers, nobody)


async def test_an_account_has_a_bounded_number_of_keys(seeded, clock, peppers, sari):
    await seeded.execute(
        """
        INSERT INTO api_key (key_id, account_id, name, prefix, last4, digest, pepper_version, created_at)
        SELECT gen_random_uuid(), $1, 'filler', 'nsk_live_AbCd', 'WxYz', sha256(n::text::bytea), 1, now()
        FROM generate_series(2, $2) AS n
        """,
        sari.account_id,
        service.KEYS_PER_ACCOUNT_MAX,
    )
    with pytest.raises(TooManyKeys):
        await make(seeded, clock, peppers, sari)
    await service.revoke_key(seeded, clock, sari.key_id, account_id=None)
    await make(seeded, clock, peppers, sari)


async def test_revoked_keys_stay_listed(seeded, clock, peppers, sari):
    made = await make(seeded, clock, peppers, sari, name="second", models=("m1", "m2"))
    first_stop = (await service.revoke_key(seeded, clock, made.key_id, account_id=None)).revoked_at
    clock.move(timedelta(days=1))
    assert (await service.revoke_key(seeded, clock, made.key_id, account_id=None)).revoked_at == first_stop
    listed = {key.key_id: key for key in await service.list_keys(seeded, sari.account_id)}
    assert listed[made.key_id].status(clock.now()) is KeyStatus.REVOKED
    assert listed[made.key_id].scopes.models == ("m1", "m2")
    assert listed[sari.key_id].status(clock.now()) is KeyStatus.ACTIVE


async def test_nobody_touches_the_key_of_another_account(seeded, clock, peppers, sari, budi):
    with pytest.raises(KeyNotFound):
        await service.revoke_key(seeded, clock, sari.key_id, account_id=budi.account_id)
    with pytest.raises(KeyNotFound):
        await rotate(seeded, clock, peppers, sari.key_id, account_id=budi.account_id)
    assert [key.key_id for key in await service.list_keys(seeded, budi.account_id)] == [budi.key_id]


# ------------------------------------------------------------------ rotating


async def test_a_rotated_key_works_for_its_grace_and_the_new_one_has_its_scopes(
    seeded, keys, clock, peppers, sari
):
    old = await make(
        seeded, clock, peppers, sari, name="ci", monthly_tokens=9, models=("m",), ip_ranges=("10.0.0.0/8",)
    )
    new = await rotate(
        seeded, clock, peppers, old.key_id, grace=timedelta(hours=1), account_id=sari.account_id
    )
    listed = {key.key_id: key for key in await service.list_keys(seeded, sari.account_id)}
    assert listed[new.key_id].scopes == msgspec.structs.replace(listed[old.key_id].scopes, expires_at=None)
    assert listed[old.key_id].replaced_by == new.key_id
    clock.move(timedelta(minutes=59))
    await keys.authenticate(old.text)
    clock.move(timedelta(minutes=1))
    with pytest.raises(ExpiredApiKey):
        await keys.authenticate(old.text)
    assert (await keys.authenticate(new.text)).key_id == new.key_id


async def test_without_a_grace_the_old_key_is_revoked(seeded, keys, clock, peppers, sari):
    new = await rotate(seeded, clock, peppers, sari.key_id)
    with pytest.raises(InvalidApiKey):
        await keys.authenticate(sari.api_key)
    await keys.authenticate(new.text)


async def test_a_grace_makes_no_key_live_longer(seeded, keys, clock, peppers, sari):
    ends_at = clock.now() + timedelta(minutes=10)
    old = await make(seeded, clock, peppers, sari, expires_at=ends_at)
    new = await rotate(seeded, clock, peppers, old.key_id, grace=timedelta(hours=1))
    listed = {key.key_id: key for key in await service.list_keys(seeded, sari.account_id)}
    assert listed[old.key_id].scopes.expires_at == ends_at
    assert listed[new.key_id].scopes.expires_at == ends_at


async def test_a_key_is_replaced_once(seeded, clock, peppers, sari):
    await rotate(seeded, clock, peppers, sari.key_id, grace=timedelta(hours=1))
    with pytest.raises(KeyNotActive):
        await rotate(seeded, clock, peppers, sari.key_id, grace=timedelta(hours=1))


async def test_a_key_that_does_not_work_cannot_be_rotated(seeded, clock, peppers, sari):
    with pytest.raises(KeyNotFound):
        await rotate(seeded, clock, peppers, uuid4())
    with pytest.raises(InvalidValue, match="between 0 and 30 days"):
        await rotate(seeded, clock, peppers, sari.key_id, grace=timedelta(days=31))
    await service.revoke_key(seeded, clock, sari.key_id, account_id=None)
    with pytest.raises(KeyNotActive):
        await rotate(seeded, clock, peppers, sari.key_id)


# ------------------------------------------------------------------ last used


async def last_use(db, key_id):
    return tuple(
        await db.fetchrow("SELECT last_used_model, last_used_at FROM api_key WHERE key_id = $1", key_id)
    )


async def test_a_use_is_written_at_most_once_a_minute(seeded, clock, sari, budi):
    uses = LastUsed(keys_max=10)
    first = clock.now()
    uses.mark(sari.key_id, "small", first)
    assert await uses.flush(seeded, clock.now()) == 1
    clock.move(timedelta(seconds=59))
    uses.mark(sari.key_id, "large", clock.now())
    uses.mark(budi.key_id, "small", clock.now())
    assert await uses.flush(seeded, clock.now()) == 1
    assert await last_use(seeded, sari.key_id) == ("small", first)
    assert await last_use(seeded, budi.key_id) == ("small", clock.now())
    clock.move(timedelta(seconds=1))
    assert await uses.flush(seeded, clock.now()) == 1
    assert await last_use(seeded, sari.key_id) == ("large", clock.now() - timedelta(seconds=1))
    assert await uses.flush(seeded, clock.now()) == 0


async def test_an_earlier_use_does_not_replace_a_later_one(seeded, clock, sari):
    here, there = LastUsed(keys_max=10), LastUsed(keys_max=10)
    there.mark(sari.key_id, "early", clock.now())
    clock.move(timedelta(seconds=5))
    here.mark(sari.key_id, "late", clock.now())
    await here.flush(seeded, clock.now())
    await there.flush(seeded, clock.now())
    assert await last_use(seeded, sari.key_id) == ("late", clock.now())


async def test_uses_that_could_not_be_written_are_tried_again(seeded, database_url, clock, sari):
    uses = LastUsed(keys_max=10)
    uses.mark(sari.key_id, "small", clock.now())
    closed = await open_pool(database_url, Limits(), application="closed")
    await closed.close()
    with pytest.raises(Exception, match="closed"):
        await uses.flush(closed, clock.now())
    assert await uses.flush(seeded, clock.now()) == 1
    assert await last_use(seeded, sari.key_id) == ("small", clock.now())


async def test_no_more_keys_are_remembered_than_allowed(seeded, clock, sari, budi):
    uses = LastUsed(keys_max=1)
    uses.mark(sari.key_id, "small", clock.now())
    uses.mark(budi.key_id, "small", clock.now())
    assert await uses.flush(seeded, clock.now()) == 1


# ------------------------------------------------------------------ keys whose text is computed


async def renew(db, clock, peppers, key_id, owner, *, seed, hours):
    text = derive_key(seed)
    await service.renew_key(
        db,
        clock,
        peppers,
        key_id,
        account_id=owner.account_id,
        text=text,
        scopes=KeyScopes(name="Playground", expires_at=clock.now() + timedelta(hours=hours)),
    )
    return text


async def test_only_a_later_end_gives_a_key_its_next_text(keys, seeded, clock, peppers, sari):
    key_id = uuid4()
    first = await renew(seeded, clock, peppers, key_id, sari, seed=b"a" * 32, hours=2)
    assert (await keys.authenticate(first)).key_id == key_id
    second = await renew(seeded, clock, peppers, key_id, sari, seed=b"b" * 32, hours=3)
    late = await renew(seeded, clock, peppers, key_id, sari, seed=b"c" * 32, hours=2)
    assert (await keys.authenticate(second)).key_id == key_id
    with pytest.raises(InvalidApiKey):
        await keys.authenticate(late)
    row = next(key for key in await service.list_keys(seeded, sari.account_id) if key.key_id == key_id)
    assert (row.prefix, row.last4) == (second[:13], second[-4:])


async def test_a_computed_key_is_never_renewed_after_its_end_or_for_another_account(
    keys, seeded, clock, peppers, sari, budi
):
    key_id = uuid4()
    await renew(seeded, clock, peppers, key_id, sari, seed=b"a" * 32, hours=2)
    stolen = await renew(seeded, clock, peppers, key_id, budi, seed=b"b" * 32, hours=9)
    await service.revoke_key(seeded, clock, key_id, account_id=sari.account_id)
    revived = await renew(seeded, clock, peppers, key_id, sari, seed=b"c" * 32, hours=9)
    for text in (stolen, revived):
        with pytest.raises(InvalidApiKey):
            await keys.authenticate(text)
