"""Refusals are counted for the account of their key, by hour and reason, beside the way of a request."""

from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from gateway.accounts.model import AccountStatus
from gateway.clock import SystemClock
from gateway.db.pool import open_pool
from gateway.errors import InvalidValue
from gateway.keys.cache import KeyCache
from gateway.keys.model import AccountSuspended, InvalidApiKey, ModelNotAllowed, PaymentRequired
from gateway.keys.service import KeyService
from gateway.quota.model import InsufficientQuota, QuotaState, RateLimited
from gateway.refusals import store
from gateway.refusals.model import RefusalRow
from gateway.refusals.service import Refusals
from gateway.runtime import metrics
from gateway.runtime.settings import Limits
from tests.plugins.cast import PEPPERS

NOW = datetime(2026, 11, 23, 2, 59, 59, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST_HOUR = datetime(2026, 11, 23, 2, tzinfo=UTC)


@pytest.fixture
async def record(seeded, sari):
    """What the gateway knows of Sari's key."""
    service = KeyService(seeded, SystemClock(), PEPPERS, KeyCache(Limits()))
    return await service.authenticate(sari.api_key)


def quota(scope):
    return QuotaState(
        limit=1, used=1, held=0, remaining=0, required=1, resets_at="", period="2026-11", scope=scope
    )


async def counted(db, person, *, start=FIRST_HOUR, end=FIRST_HOUR + HOUR):
    rows = await store.by_reason(db, person.account_id, start, end)
    return {row.reason: row.requests for row in rows}


async def test_each_limit_and_each_code_is_a_reason_of_its_own(seeded, sari, record):
    refusals = Refusals(counts_max=100)
    for limit in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrency"):
        refusals.note(record, RateLimited(limit, 1, 1, None), NOW)
    refusals.note(record, InsufficientQuota(quota("month"), None), NOW)
    refusals.note(record, InsufficientQuota(quota("key_month"), None), NOW)
    refusals.note(record, ModelNotAllowed(), NOW)
    refusals.note(record, InvalidValue("no"), NOW)
    refusals.note(record, InvalidValue("no"), NOW)
    assert await refusals.flush(seeded) == 8
    assert await counted(seeded, sari) == {
        "invalid_value": 2, "concurrency": 1, "key_month": 1, "model_not_allowed": 1, "month": 1,
        "requests_per_minute": 1, "tokens_per_day": 1, "tokens_per_minute": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "error"),
    [(AccountStatus.SUSPENDED, AccountSuspended), (AccountStatus.PAYMENT_REQUIRED, PaymentRequired)],
)
async def test_an_account_that_may_not_be_served_is_known_by_its_key(seeded, sari, record, status, error):
    refusals = Refusals(counts_max=100)
    refusals.note(None, error(msgspec.structs.replace(record, account_status=status)), NOW)
    await refusals.flush(seeded)
    assert await counted(seeded, sari) == {error.code: 1}


async def test_a_key_that_is_nobodys_is_counted_for_nobody(seeded):
    refusals = Refusals(counts_max=100)
    refusals.note(None, InvalidApiKey(), NOW)
    assert await refusals.flush(seeded) == 0


async def test_counts_of_two_processes_add_up_by_the_hour(seeded, sari, record):
    one, other = Refusals(counts_max=100), Refusals(counts_max=100)
    one.note(record, ModelNotAllowed(), NOW)
    other.note(record, ModelNotAllowed(), NOW)
    other.note(record, ModelNotAllowed(), NOW + timedelta(seconds=1))
    await one.flush(seeded)
    await other.flush(seeded)
    assert await counted(seeded, sari) == {"model_not_allowed": 2}
    assert await counted(seeded, sari, end=FIRST_HOUR + 2 * HOUR) == {"model_not_allowed": 3}


async def test_what_could_not_be_written_is_written_the_next_time(database_url, seeded, sari, record):
    refusals = Refusals(counts_max=100)
    refusals.note(record, ModelNotAllowed(), NOW)
    gone = await open_pool(database_url, Limits(), application="tests")
    await gone.close()
    with pytest.raises(asyncpg.InterfaceError):
        await refusals.flush(gone)
    refusals.note(record, ModelNotAllowed(), NOW)
    await refusals.flush(seeded)
    assert await counted(seeded, sari) == {"model_not_allowed": 2}


async def test_what_waits_is_bounded_and_what_is_not_counted_is_a_metric(seeded, sari, record):
    refusals = Refusals(counts_max=1)
    before = metrics.refusals_uncounted_total._value.get()
    refusals.note(record, ModelNotAllowed(), NOW)
    refusals.note(record, InvalidValue("no"), NOW)
    refusals.note(record, ModelNotAllowed(), NOW)
    await refusals.flush(seeded)
    assert await counted(seeded, sari) == {"model_not_allowed": 2}
    assert metrics.refusals_uncounted_total._value.get() - before == 1


async def test_old_counts_go_and_others_stay(seeded, sari, record):
    refusals = Refusals(counts_max=100)
    now = await seeded.fetchval("SELECT now()")
    for age in (timedelta(days=399), timedelta(days=402)):
        refusals.note(record, ModelNotAllowed(), now - age)
    await refusals.flush(seeded)
    assert await store.delete_old(seeded, older_than_days=400, page=10) == 1
    left = await store.by_reason(seeded, sari.account_id, now - timedelta(days=500), now)
    assert left == [RefusalRow(reason="model_not_allowed", requests=1)]
