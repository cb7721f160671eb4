"""Adjusting by hand: tried dry, written with a reason, seen on the statement, carried to Stripe, and provable."""

from datetime import timedelta

import pytest

from billing.adjustments import service
from billing.adjustments.model import Adjustment, NotAdjustable
from billing.invoices.statements import statement_of
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service as sync
from billing.sync import worker
from gateway.accounts import service as accounts
from gateway.clock import month_of
from gateway.ids import uuid7
from gateway.units import Currency
from tests.plugins.billing import broken_invariants, counted, fill_read_models, outbox_units, spend
from tests.plugins.days import close_until

UNIT = STRIPE_MONEY[Currency.IDR].meter_unit_pico


@pytest.fixture
async def spender(seeded, clock, consumer):
    """Sari, who used five requests in the hour before."""
    await spend(seeded, [consumer.account_id], [clock.now() - timedelta(hours=1)], entries=5)
    await fill_read_models(seeded)
    return consumer


async def adjust(db, clock, account_id, *, amount_pico=0, tokens=0, apply=True):
    adjustment = Adjustment(
        entry_id=uuid7(), amount_pico=amount_pico, tokens=tokens, reason="sorry for Monday", actor="dewi"
    )
    async with db.acquire() as connection, connection.transaction():
        return await service.adjust(connection, clock, account_id, adjustment, apply=apply)


async def spent(db, customer):
    return int(
        await db.fetchval(
            "SELECT billable_pico FROM account_period_total WHERE account_id = $1", customer.account_id
        )
    )


async def test_a_dry_run_says_what_would_change_and_writes_nothing(seeded, clock, spender):
    before = await spent(seeded, spender)
    found = await adjust(seeded, clock, spender.account_id, amount_pico=-3 * UNIT, tokens=-10, apply=False)
    assert (found.applied, found.amount, found.tokens) == (False, "-0.003", -10)
    assert found.used_tokens_after == found.used_tokens_before - 10
    assert await spent(seeded, spender) == before
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry WHERE kind = 'adjustment'") == 0


@pytest.mark.parametrize("units", [-3, 4])
async def test_an_adjustment_reaches_statement_and_stripe_to_the_unit(
    seeded, clock, sandbox, sender, spender, units
):
    before = await spent(seeded, spender)
    await adjust(seeded, clock, spender.account_id, amount_pico=units * UNIT, tokens=units)
    async with seeded.acquire() as connection, connection.transaction():
        statement = await statement_of(connection, spender.account_id, month_of(clock.now()))
    (line,) = statement.corrections
    assert (line.kind, line.reason, line.amount_pico) == ("adjustment", "sorry for Monday", units * UNIT)
    assert statement.usage_pico == before + units * UNIT
    assert await broken_invariants(seeded) == []
    clock.move(timedelta(hours=2))
    sandbox.move_to(int(clock.now().timestamp()))
    await worker.run(seeded, clock, sender, cutoff=sync.closed_before(clock.now(), 300))
    assert counted(sandbox, spender) == await outbox_units(seeded, spender) == statement.usage_pico // UNIT
    assert await broken_invariants(seeded) == []


async def test_an_adjustment_in_a_day_that_is_closed_is_in_that_day(seeded, clock, spender):
    await close_until(seeded, clock.now().date())
    before = await seeded.fetchval("SELECT sum(amount_pico) FROM usage_daily")
    await adjust(seeded, clock, spender.account_id, amount_pico=3 * UNIT, tokens=4)
    assert await seeded.fetchval("SELECT sum(amount_pico) FROM usage_daily") == before + 3 * UNIT
    assert await seeded.fetchval("SELECT input_tokens FROM usage_daily WHERE model = 'adjustment'") == 4
    assert await broken_invariants(seeded) == []


async def test_tokens_that_are_given_back_may_be_used_again_and_redis_reads_the_limits_anew(
    seeded, clock, spender
):
    used = await seeded.fetchval("SELECT quota_tokens FROM account_period_total")
    await seeded.execute(
        "INSERT INTO quota_counter (account_id, subject_id, period, used_tokens) SELECT $1, $1, p, $2 "
        "FROM unnest($3::text[]) AS p",
        spender.account_id, used, ["2026-11", "2026-11-23"],
    )  # fmt: skip
    fence = "SELECT fence FROM quota_gate WHERE account_id = $1"
    before = await seeded.fetchval(fence, spender.account_id)
    await adjust(seeded, clock, spender.account_id, tokens=-used)
    assert await seeded.fetchval("SELECT sum(used_tokens) FROM quota_counter") == 0
    assert await seeded.fetchval(fence, spender.account_id) == before + 1
    assert await broken_invariants(seeded) == []


@pytest.mark.parametrize(
    ("amount_pico", "tokens", "says"),
    [
        (0, 0, "nothing to adjust"),
        (-(10**15), 0, "has spent less"),
        (10**19, 0, "more than one entry"),
        (0, -(10**9), "can be given back"),
    ],
)
async def test_what_would_have_no_effect_or_another_is_refused(
    seeded, clock, spender, amount_pico, tokens, says
):
    with pytest.raises(NotAdjustable, match=says):
        await adjust(seeded, clock, spender.account_id, amount_pico=amount_pico, tokens=tokens)


async def test_an_account_that_pays_nothing_by_use_is_given_credit_instead(seeded, clock):
    budi = await accounts.create(
        seeded, clock, email="budi@example.com", plan_id="free", currency=Currency.IDR
    )
    with pytest.raises(NotAdjustable, match="credit grant"):
        await adjust(seeded, clock, budi.account_id, amount_pico=UNIT)
    assert (await adjust(seeded, clock, budi.account_id, tokens=5)).applied
    assert await broken_invariants(seeded) == []
