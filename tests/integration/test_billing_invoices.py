"""Invoices read back, statements that equal them to the minor unit, and a month that is closed."""

import csv
import io
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from billing.invoices import closing, store
from billing.invoices.model import MonthState, NothingToAccept
from billing.invoices.statement_csv import statement_csv
from billing.invoices.statement_page import statement_page
from billing.invoices.statements import statement_of
from billing.reconcile.service import Reconciler
from billing.sync import service as sync
from billing.sync import worker
from billing.sync.sender import Sender
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountNotFound
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.units import Currency
from tests.plugins.billing import spend
from tests.plugins.cast import Person
from tests.plugins.shop import GOOD

NOVEMBER_23 = datetime(2026, 11, 23, 2, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
HOURS = [DECEMBER - timedelta(hours=hours) for hours in (1, 5, 30, 100)]
SETTLED = timedelta(minutes=6)
QUIET = timedelta(minutes=15)
NOVEMBER = "2026-11"


@pytest.fixture
def carry(shop):
    """Carry usage to Stripe and compare it, as the worker does."""
    sender = Sender(shop.db, shop.clock, shop.stripe, shop.settings)

    async def run():
        await worker.run(shop.db, shop.clock, sender, cutoff=sync.closed_before(shop.clock.now(), 300))
        shop.move_to(shop.clock.now() + QUIET)
        reconciler = Reconciler(shop.db, shop.clock, shop.stripe, max_reads=1_000)
        await reconciler.run(everybody=True)

    return run


async def dollar_account(shop):
    account = await accounts.create(
        shop.db, shop.clock, email="usd@example.com", plan_id="free", currency=Currency.USD
    )
    return Person("usd@example.com", account.account_id, uuid7(), "")


async def month_of_use(shop, carry, people, *, entries=37):
    """Let people pay by use for what is left of November, and December begin."""
    for person in people:
        await shop.subscribed(person, "payg")
    shop.move_to(DECEMBER + SETTLED)
    await spend(shop.db, [person.account_id for person in people], HOURS, entries=entries)
    await carry()
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()


# ------------------------------------------------------------------ invoices


async def test_an_invoice_can_be_read_back_as_stripe_has_it(shop, sari):
    await shop.subscribed(sari, "basic")
    [invoice] = await store.list_invoices(shop.db, account_id=sari.account_id, limit=10)
    [there] = shop.get("/v1/invoices")["data"]
    assert (invoice.invoice_id, invoice.number, invoice.total) == (
        there["id"],
        there["number"],
        there["total"],
    )
    assert (invoice.status, invoice.amount_remaining, invoice.currency) == ("paid", 0, "idr")
    [line] = invoice.lines
    assert (line.amount_minor, line.description) == (there["total"], "1 x Basic")
    assert await store.list_invoices(shop.db, account_id=None, status="open", limit=10) == []


async def test_an_invoice_of_somebody_elses_product_is_not_kept(shop):
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    _, _, answer = shop.sandbox.send("POST", "/v1/customers", "email=x@example.com", headers)
    customer = answer.split('"id":"')[1].split('"')[0]
    shop.sandbox.send("POST", "/v1/invoices", f"customer={customer}&currency=idr", headers)
    await shop.catch_up()
    assert await store.list_invoices(shop.db, account_id=None, limit=10) == []


async def test_a_draft_that_somebody_deletes_in_stripe_is_forgotten(shop, sari):
    subscription = await shop.subscribed(sari, "basic")
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    form = f"customer={subscription.customer_id}&currency=idr"
    _, _, answer = shop.sandbox.send("POST", "/v1/invoices", form, headers)
    await shop.catch_up()
    (draft,) = await store.list_invoices(shop.db, account_id=sari.account_id, status="draft", limit=10)
    assert draft.invoice_id in answer
    assert shop.sandbox.send("DELETE", f"/v1/invoices/{draft.invoice_id}", None, headers)[0] == 200
    await shop.catch_up()
    assert await store.list_invoices(shop.db, account_id=sari.account_id, status="draft", limit=10) == []


async def test_a_long_invoice_is_read_with_all_its_lines(shop, sari):
    await shop.subscribed(sari, "basic")
    [subscription] = shop.get("/v1/subscriptions")["data"]
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    for number in range(15):
        form = f"customer={subscription['customer']}&currency=idr&amount=100&description=Item {number}"
        status, _, body = shop.sandbox.send("POST", "/v1/invoiceitems", form, headers)
        assert status == 200, body
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    newest, *_ = await store.list_invoices(shop.db, account_id=sari.account_id, limit=10)
    assert len(newest.lines) == 16
    assert sum(line.amount_minor for line in newest.lines) == newest.total


async def test_a_draft_proves_what_arrived_without_another_read(shop, sari):
    await shop.subscribed(sari, "payg")
    sender = Sender(shop.db, shop.clock, shop.stripe, shop.settings)
    shop.move_to(DECEMBER + SETTLED)
    await spend(shop.db, [sari.account_id], HOURS, entries=5)
    await worker.run(shop.db, shop.clock, sender, cutoff=sync.closed_before(shop.clock.now(), 300))
    assert await batch_states(shop.db) == {"accepted"}
    shop.move_to(shop.clock.now() + QUIET)
    await shop.catch_up()
    assert await batch_states(shop.db) == {"confirmed"}
    assert not [r for r in shop.sandbox.get("state")["requests"] if "event_summaries" in r["path"]]


async def batch_states(db):
    return {row["state"] for row in await db.fetch("SELECT state FROM stripe_batch")}


# ------------------------------------------------------------------ statements


@pytest.mark.parametrize("entries", [1, 37, 400])
async def test_a_statement_equals_stripes_invoice_to_the_minor_unit(shop, carry, sari, entries):
    dollars = await dollar_account(shop)
    await month_of_use(shop, carry, [sari, dollars], entries=entries)
    for person in (sari, dollars):
        statement = await statement_of(shop.db, person.account_id, NOVEMBER)
        [invoice, *_] = await store.list_invoices(shop.db, account_id=person.account_id, limit=10)
        assert (statement.usage_minor, statement.agrees) == (invoice.total, True)
        assert invoice.status == "paid"
        shown = sum(part.amount_pico for line in statement.billed for part in line.tokens)
        assert shown == statement.usage_pico == await ledger_sum(shop.db, person)


async def ledger_sum(db, person):
    return int(
        await db.fetchval(
            "SELECT sum(amount_pico) FROM ledger_entry WHERE account_id = $1", person.account_id
        )
    )


async def test_a_statement_shows_tokens_times_rate(shop, carry, sari):
    await month_of_use(shop, carry, [sari])
    [line] = (await statement_of(shop.db, sari.account_id, NOVEMBER)).billed
    rates = {part.token_class.value: part.rate_micro_per_mtok for part in line.tokens}
    assert rates == {"input_text": 300_000_000, "output_text": 1_500_000_000}
    assert all(part.tokens * part.rate_micro_per_mtok == part.amount_pico for part in line.tokens)
    assert (line.model, line.book_id, line.requests) == ("nusantara-base", "idr-1", 4 * 37)


async def test_a_flat_plan_is_on_the_statement_and_its_usage_costs_nothing_more(shop, sari):
    await shop.subscribed(sari, "basic")
    await spend(shop.db, [sari.account_id], [NOVEMBER_23 + timedelta(hours=1)], entries=3)
    await included(shop.db)
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    statement = await statement_of(shop.db, sari.account_id, NOVEMBER)
    first = (await store.list_invoices(shop.db, account_id=sari.account_id, limit=10))[-1]
    assert (statement.billed, len(statement.included), statement.usage_minor) == ((), 1, 0)
    assert [fee.amount_minor for fee in statement.plan] == [first.total] == [statement.total_minor]
    december = await statement_of(shop.db, sari.account_id, "2026-12")
    assert [fee.amount_minor for fee in december.plan] == [999_900]


async def included(db):
    """Let usage be covered by a plan: the ledger is append-only, so the guard is stepped around."""
    async with db.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE ledger_entry SET billable = false")
        await connection.execute("DELETE FROM billing_outbox")


async def test_a_statement_of_a_month_without_anything_is_empty(shop, sari):
    statement = await statement_of(shop.db, sari.account_id, "2026-10")
    assert (statement.billed, statement.total_minor, statement.agrees) == ((), 0, None)
    with pytest.raises(InvalidValue, match="2026-11"):
        await statement_of(shop.db, sari.account_id, "November")
    with pytest.raises(AccountNotFound):
        await statement_of(shop.db, uuid7(), NOVEMBER)


async def test_the_page_and_the_csv_say_what_the_statement_says(shop, carry, sari):
    await month_of_use(shop, carry, [sari])
    statement = await statement_of(shop.db, sari.account_id, NOVEMBER)
    rows = list(csv.DictReader(io.StringIO(statement_csv(statement))))
    assert [row["token_class"] for row in rows if row["section"] == "billed"] == ["input_text", "output_text"]
    [total] = [row["amount"] for row in rows if row["section"] == "total"]
    assert int(total.replace(".", "")) == statement.total_minor
    page = statement_page(statement)
    assert f"{statement.billed[0].tokens[0].tokens:,}" in page
    assert "the same" in page
    assert "@media print" in page
    assert "<script" not in page


# ------------------------------------------------------------------ closing a month


async def insert_entry(db, account_id, at, kind="usage"):
    await db.execute(
        """
        INSERT INTO ledger_entry (
            entry_id, request_id, kind, occurred_at, settled_at, account_id, model, endpoint, plan_id, period,
            input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
            output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source, end_reason,
            duration_ms)
        VALUES (gen_random_uuid(), gen_random_uuid(), $3, $2, $2, $1, 'nusantara-base', 'responses', 'payg',
            to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM'), 0, 0, 0, 0, 0, 0, 0, 'idr', 'idr-1', 0, true, 'upstream',
            'completed', 0)
        """,
        account_id, at, kind,
    )  # fmt: skip


async def test_a_month_is_closed_step_by_step_and_then_takes_no_entry(shop, carry, sari, budi):
    assert (await closing.advance(shop.db, shop.clock, NOVEMBER)).obstacles[0].code == "not_over"
    for person in (sari, budi):
        await shop.subscribed(person, "payg")
    shop.move_to(DECEMBER + SETTLED)
    await spend(shop.db, [sari.account_id, budi.account_id], HOURS, entries=9)
    found = await closing.advance(shop.db, shop.clock, NOVEMBER)
    assert (found.state, [o.code for o in found.obstacles]) == (MonthState.CLOSING, ["unbatched"])
    await carry()
    await shop.catch_up()
    found = await closing.advance(shop.db, shop.clock, NOVEMBER)
    assert (found.state, [o.code for o in found.obstacles]) == (MonthState.RECONCILED, ["drafts", "unbilled"])
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    assert await closing.advance(shop.db, shop.clock, NOVEMBER) == closing.Standing(
        period=NOVEMBER, state=MonthState.CLOSED, obstacles=()
    )
    closed = await store.find_period(shop.db, NOVEMBER)
    assert (closed.entries, len(closed.totals_sha256)) == (2 * 4 * 9, 64)
    for kind in ("usage", "adjustment"):
        with pytest.raises(asyncpg.RestrictViolationError, match="closed month"):
            await insert_entry(shop.db, sari.account_id, HOURS[0], kind)
    await insert_entry(shop.db, sari.account_id, DECEMBER, "adjustment")
    with pytest.raises(asyncpg.RestrictViolationError, match="closed"):
        await shop.db.execute("UPDATE billing_period SET state = 'open'")
    assert (await statement_of(shop.db, sari.account_id, NOVEMBER)).closed_at == shop.clock.now()


async def test_a_month_waits_for_requests_that_straddle_its_end(shop, sari, budi):
    await shop.db.execute(
        """
        INSERT INTO request_intent (request_id, account_id, key_id, model, endpoint, stream, plan_id, billable, currency,
            book_id, admitted_at, period, day, input_tokens, output_tokens, reserved_tokens, deadline, heartbeat_at)
        VALUES (gen_random_uuid(), $1, $1, 'nusantara-base', 'responses', true, 'payg', true, 'idr', 'idr-1', $2,
            '2026-11', '2026-11-30', 1, 1, 2, $2, $2)
        """,
        sari.account_id, DECEMBER - timedelta(seconds=1),
    )  # fmt: skip
    shop.move_to(DECEMBER + timedelta(seconds=10))
    found = await closing.advance(shop.db, shop.clock, NOVEMBER)
    assert (found.state, [o.code for o in found.obstacles]) == (MonthState.CLOSING, ["open_requests"])
    await shop.db.execute("UPDATE request_intent SET state = 'released'")
    assert (await closing.advance(shop.db, shop.clock, NOVEMBER)).state is MonthState.CLOSED


async def test_usage_that_stripe_never_billed_keeps_its_month_from_closing(shop, carry, sari):
    await shop.subscribed(sari, "payg")
    await shop.subscriptions.cancel(sari.account_id)
    shop.move_to(DECEMBER + timedelta(hours=2))
    await shop.catch_up()
    # The grace of the invoice is over, and what comes now is on no invoice.
    await spend(shop.db, [sari.account_id], HOURS, entries=9)
    await carry()
    found = await closing.advance(shop.db, shop.clock, NOVEMBER)
    assert (found.state, found.obstacles[-1].code) == (MonthState.RECONCILED, "unbilled")
    assert str(sari.account_id) in found.obstacles[-1].detail


async def test_what_no_invoice_will_ever_bill_is_accepted_by_an_operator(shop, carry, sari, budi):
    for person in (sari, budi):
        await shop.subscribed(person, "payg")
        await shop.subscriptions.cancel(person.account_id)
    shop.move_to(DECEMBER + SETTLED)
    await spend(shop.db, [budi.account_id], HOURS, entries=9)
    await carry()
    with pytest.raises(NothingToAccept, match="drafts"):
        await accepted(shop, sari)
    shop.move_to(DECEMBER + timedelta(days=3))
    await shop.catch_up()
    await spend(shop.db, [sari.account_id], HOURS, entries=9)
    await carry()
    with pytest.raises(NothingToAccept, match="is billed what it used"):
        await accepted(shop, budi)
    assert (await closing.advance(shop.db, shop.clock, NOVEMBER)).obstacles[-1].count == 1
    await shop.db.execute(
        "INSERT INTO reconcile_finding SELECT gen_random_uuid(), account_id, currency, customer_id, 'invoice', 'missing',"
        " '2026-11-23T02:00:00Z', value, 0, frozen_at, frozen_at, NULL, NULL FROM stripe_batch WHERE account_id = $1 LIMIT 1",
        sari.account_id,
    )
    found, standing = await accepted(shop, sari)
    assert (found.amount_pico, found.billed_minor) == (await ledger_sum(shop.db, sari), 0)
    assert standing.state is MonthState.CLOSED
    assert await shop.db.fetchval("SELECT resolution FROM reconcile_finding") == "accepted"


async def accepted(shop, person):
    async with shop.db.acquire() as connection, connection.transaction():
        found = await closing.accept(connection, shop.clock, NOVEMBER, person.account_id)
        return found, await closing.advance_in(connection, shop.clock, NOVEMBER, [person.account_id])


async def test_every_month_that_is_over_is_looked_at(shop, carry, sari):
    await month_of_use(shop, carry, [sari], entries=2)
    await shop.db.execute(
        "INSERT INTO account_period_total VALUES ($1, '2026-10', 'idr', 0, 0, 0, 0, 0)", sari.account_id
    )
    found = await closing.advance_all(shop.db, shop.clock)
    assert [(one.period, one.state) for one in found] == [
        ("2026-10", MonthState.CLOSED), ("2026-11", MonthState.CLOSED),
    ]  # fmt: skip
    assert await closing.advance_all(shop.db, shop.clock) == []
    assert [row.period for row in await store.list_periods(shop.db, 10)] == ["2026-11", "2026-10"]


async def test_a_month_is_closed_when_its_invoice_could_not_be_collected(shop, carry, sari):
    await shop.subscribed(sari, "payg", GOOD)
    await shop.use_card(sari, "0341")
    shop.move_to(DECEMBER + SETTLED)
    await spend(shop.db, [sari.account_id], HOURS, entries=9)
    await carry()
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    assert (await store.list_invoices(shop.db, account_id=sari.account_id, limit=1))[0].status == "open"
    assert (await closing.advance(shop.db, shop.clock, NOVEMBER)).state is MonthState.CLOSED
