"""A request belongs to the UTC month in which it was admitted, whenever it ends."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ids import uuid7
from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.ledger.service import Ledger, verify
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.quota.model import InsufficientQuota, ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts

LIMIT = 1_000
TENTH = timedelta(seconds=0.1)
MICROSECOND = timedelta(microseconds=1)
FIRSTS = [
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    datetime(2028, 3, 1, tzinfo=UTC),
]
BOUNDARIES = pytest.mark.parametrize("first", FIRSTS, ids=str)


@pytest.fixture
async def meter(seeded, clock):
    """A meter on Postgres whose months are those of the test's clock."""
    made = Meter(
        seeded,
        PostgresQuota(seeded, Limits(), clock=clock),
        Ledger(seeded, Limits(), health=None, spool=None),
        BookCache(),
    )
    yield made
    await made.close()


def asked_by(person, **more):
    return ReserveRequest(
        request_id=uuid7(), account_id=person.account_id, key_id=person.key_id, model="nusantara-base",
        endpoint="responses", stream=False, plan_id="free", billable=False, currency="idr", choices=1, deadline_s=60,
        month_limit=LIMIT, **({"input_tokens": 100, "output_tokens": 200, "output_min": 16} | more),
    )  # fmt: skip


async def settle(hold, tokens):
    counts = TokenCounts(input_text=tokens)
    charged = Charge(counts=counts, source=UsageSource.UPSTREAM)
    await hold.settle(EndReason.COMPLETED, charged, upstream="local", kept=None, replay=None)


async def period_of(db, hold):
    return await db.fetchval("SELECT period FROM ledger_entry WHERE request_id = $1", hold.request.request_id)


async def counted(db, person, period):
    row = await db.fetchrow(
        "SELECT used_tokens, held_tokens FROM quota_counter WHERE subject_id = $1 AND period = $2",
        person.account_id,
        period,
    )
    return tuple(row) if row else (0, 0)


def names_of(first):
    """The month before a boundary and the month after it."""
    return f"{first - MICROSECOND:%Y-%m}", f"{first:%Y-%m}"


@BOUNDARIES
@pytest.mark.parametrize("before", [TENTH, MICROSECOND])
async def test_admitted_in_the_last_moment_and_settled_after_it_is_last_months(
    seeded, meter, sari, clock, *, first, before
):
    last, next_ = names_of(first)
    clock.moment = first - before
    hold = await meter.admit(asked_by(sari))
    clock.moment = first + timedelta(seconds=40)
    await settle(hold, 130)
    assert await period_of(seeded, hold) == last
    assert await counted(seeded, sari, last) == (130, 0)
    assert await counted(seeded, sari, next_) == (0, 0)
    totals = await seeded.fetch("SELECT period, quota_tokens FROM account_period_total")
    assert [tuple(row) for row in totals] == [(last, 130)]


@BOUNDARIES
async def test_the_first_moment_belongs_to_the_new_month(seeded, meter, sari, clock, first):
    last, next_ = names_of(first)
    clock.moment = first
    hold = await meter.admit(asked_by(sari))
    await settle(hold, 130)
    assert await period_of(seeded, hold) == next_
    assert await counted(seeded, sari, last) == (0, 0)


@BOUNDARIES
async def test_a_month_that_is_used_up_does_not_burden_the_next(meter, sari, clock, first):
    clock.moment = first - TENTH
    await settle(await meter.admit(asked_by(sari)), LIMIT)
    with pytest.raises(InsufficientQuota) as caught:
        await meter.admit(asked_by(sari))
    assert caught.value.quota.period == names_of(first)[0]
    assert caught.value.quota.resets_at == f"{first:%Y-%m-%dT%H:%M:%SZ}"
    clock.moment = first
    await settle(await meter.admit(asked_by(sari)), 1)


@BOUNDARIES
async def test_what_last_month_still_holds_is_not_held_in_the_new_one(seeded, meter, sari, clock, first):
    last, next_ = names_of(first)
    clock.moment = first - TENTH
    over = await meter.admit(asked_by(sari, output_tokens=900))
    clock.moment = first
    new = await meter.admit(asked_by(sari, output_tokens=900))
    assert (over.reservation.reserved_tokens, new.reservation.reserved_tokens) == (LIMIT, LIMIT)
    assert await counted(seeded, sari, last) == await counted(seeded, sari, next_) == (0, LIMIT)
    await settle(over, 300)
    await settle(new, 500)
    assert (await counted(seeded, sari, last), await counted(seeded, sari, next_)) == ((300, 0), (500, 0))


async def test_a_clock_that_steps_back_over_the_month_counts_where_it_stands(seeded, meter, sari, clock):
    first = FIRSTS[0]
    last, next_ = names_of(first)
    clock.moment = first + TENTH
    ahead = await meter.admit(asked_by(sari))
    clock.moment = first - TENTH
    behind = await meter.admit(asked_by(sari))
    await settle(ahead, 70)
    await settle(behind, 80)
    assert (await period_of(seeded, ahead), await period_of(seeded, behind)) == (next_, last)
    broken = [check.invariant for check in await verify(seeded) if not check.ok]
    assert [invariant for invariant in broken if "partition" not in invariant] == []


async def test_the_day_turns_at_midnight_utc_and_the_month_goes_on(seeded, meter, sari, clock):
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    for moment in (midnight - MICROSECOND, midnight):
        clock.moment = moment
        await settle(await meter.admit(asked_by(sari, day_limit=300)), 300)
    assert await counted(seeded, sari, "2026-11-23") == await counted(seeded, sari, "2026-11-24") == (300, 0)
    assert await counted(seeded, sari, "2026-11") == (600, 0)
