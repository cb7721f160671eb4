"""Usage that came too late for Stripe: listed, tried dry, written off with a reason, and everything agrees again."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from billing.invoices import closing
from billing.invoices.statement_csv import statement_csv
from billing.invoices.statement_page import statement_page
from billing.invoices.statements import statement_of
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service, worker, writeoffs
from billing.sync.writeoffs import NotWritableOff
from gateway.clock import month_of
from gateway.errors import InvalidValue
from gateway.units import Currency
from tests.plugins.billing import (
    broken_invariants,
    counted,
    fill_read_models,
    outbox_units,
    pay_by_use,
    spend,
)
from tests.plugins.days import close_until

UNIT = STRIPE_MONEY[Currency.IDR].meter_unit_pico
SEPTEMBER = [datetime(2026, 9, 20, hour, tzinfo=UTC) for hour in (10, 11)]
NOVEMBER = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def sync(seeded, clock, sender):
    """Run the worker's job once."""

    async def run():
        return await worker.run(seeded, clock, sender, cutoff=service.closed_before(clock.now(), 300))

    return run


@pytest.fixture
async def late(seeded, clock, sync, consumer):
    """Sari, whose usage of September was found in November, beside usage of November."""
    await spend(seeded, [consumer.account_id], [*SEPTEMBER, NOVEMBER], entries=3)
    await fill_read_models(seeded)
    report = await sync()
    assert (report.dead, report.accepted) == (2, 1)
    return consumer


async def given_up(db, clock, batch_ids, *, apply=True):
    async with db.acquire() as connection, connection.transaction():
        return await writeoffs.write_off(
            connection, clock, batch_ids, reason="found too late", actor="dewi", apply=apply
        )


async def cost_of(db, customer, hours):
    return await db.fetchval(
        "SELECT sum(amount_pico) FROM billing_outbox WHERE account_id = $1 AND date_trunc('hour', occurred_at) = ANY ($2)",
        customer.account_id, hours,
    )  # fmt: skip


async def test_what_is_too_old_is_listed_oldest_first_with_what_an_invoice_item_would_say(
    seeded, clock, late
):
    report = await writeoffs.old_usage(seeded, clock)
    assert [old.hour for old in report.batches] == SEPTEMBER
    assert {old.entries for old in report.batches} == {3}
    (first, _) = report.batches
    cost = await cost_of(seeded, late, SEPTEMBER[:1])
    assert first.stripe_amount == f"{cost // UNIT / 1000:f}".rstrip("0").rstrip(".")
    assert (first.customer_id, first.paid_from_credit) == (late.customer_id, False)
    assert report.without_customer == ()
    nobody = await writeoffs.old_usage(seeded, clock, account_id=uuid4())
    assert nobody.batches == ()


async def test_a_dry_run_says_everything_and_writes_nothing(seeded, clock, late):
    chosen = await writeoffs.choose(seeded, clock, None)
    found = await given_up(seeded, clock, chosen, apply=False)
    assert (found.applied, found.entries, len(found.batches)) == (False, 6, 2)
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry WHERE kind = 'writeoff'") == 0
    assert (await service.status(seeded)).dead == 2


async def test_a_write_off_takes_back_what_the_entries_cost_with_reason_and_actor(
    seeded, clock, sandbox, late
):
    sent = counted(sandbox, late)
    cost = await cost_of(seeded, late, SEPTEMBER)
    chosen = await writeoffs.choose(seeded, clock, late.account_id)
    assert (await given_up(seeded, clock, chosen)).applied
    row = await seeded.fetchrow(
        "SELECT count(*) AS entries, count(DISTINCT reverses_entry_id) AS reversed, sum(amount_pico) AS pico, "
        "bool_or(billable) AS billable, min(period) AS period, min(reason) AS reason, min(actor) AS actor "
        "FROM ledger_entry WHERE kind = 'writeoff'"
    )
    assert dict(row) == {
        "entries": 6, "reversed": 6, "pico": -cost, "billable": False, "period": "2026-11",
        "reason": "found too late", "actor": "dewi",
    }  # fmt: skip
    decided = await seeded.fetch(
        "SELECT state_to, reason, actor FROM stripe_batch_decision ORDER BY batch_id"
    )
    assert [tuple(one) for one in decided] == [("empty", "written off: found too late", "dewi")] * 2
    assert (await service.status(seeded)).dead == 0
    assert await broken_invariants(seeded) == []
    assert counted(sandbox, late) == sent == await outbox_units(seeded, late) - await old_units(seeded)


async def old_units(db):
    return await db.fetchval("SELECT sum(value) FROM stripe_batch WHERE state = 'empty'")


async def test_nothing_is_written_off_twice_or_that_stripe_may_have(seeded, clock, late):
    chosen = await writeoffs.choose(seeded, clock, None)
    await given_up(seeded, clock, chosen)
    with pytest.raises(NotWritableOff):
        await given_up(seeded, clock, chosen)
    accepted = await seeded.fetchval("SELECT batch_id FROM stripe_batch WHERE state = 'accepted'")
    for batch_id in (accepted, uuid4()):
        with pytest.raises(NotWritableOff, match=str(batch_id)):
            await given_up(seeded, clock, [batch_id])
    with pytest.raises(InvalidValue, match="too old"):
        await writeoffs.choose(seeded, clock, None)
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry WHERE kind = 'writeoff'") == 6


async def test_a_month_whose_usage_was_written_off_can_be_closed_and_its_statement_says_so(
    seeded, clock, late
):
    september = month_of(SEPTEMBER[0])
    await closing.advance(seeded, clock, september)
    assert [one.code for one in (await closing.advance(seeded, clock, september)).obstacles] == [
        "unconfirmed"
    ]
    await given_up(seeded, clock, await writeoffs.choose(seeded, clock, None))
    assert (await closing.advance(seeded, clock, september)).state == "closed"
    statement = await statement_of(seeded, late.account_id, september)
    assert (statement.written_off_pico, statement.usage_minor) == (await old_units(seeded) * UNIT, 0)
    assert "is not billed" in statement_page(statement)
    assert "written_off" in statement_csv(statement)
    current = await statement_of(seeded, late.account_id, month_of(clock.now()))
    assert (current.corrections, current.written_off_pico) == ((), 0)


async def test_usage_of_an_account_that_is_nobody_at_stripe_is_listed_beside(seeded, clock, stripe, consumer):
    budi = await pay_by_use(seeded, clock, stripe, "budi@example.com", Currency.IDR)
    await spend(seeded, [budi.account_id], SEPTEMBER, entries=2)
    await seeded.execute("DELETE FROM stripe_customer WHERE account_id = $1", budi.account_id)
    (orphan,) = (await writeoffs.old_usage(seeded, clock)).without_customer
    assert (orphan.account_id, orphan.entries) == (budi.account_id, 4)


async def test_a_write_off_in_a_day_that_is_closed_is_in_that_day(seeded, clock, late):
    await close_until(seeded, clock.now().date())
    await given_up(seeded, clock, await writeoffs.choose(seeded, clock, late.account_id))
    taken_back = await seeded.fetchval(
        "SELECT sum(amount_pico) FROM usage_daily WHERE day = $1", clock.now().date()
    )
    assert taken_back == -await cost_of(seeded, late, SEPTEMBER)
    assert await broken_invariants(seeded) == []
