"""A month that ends while requests run: nothing of it is frozen too early, and ledger, statement and invoice agree.

``NUSAGATE_PROOF_PEOPLE`` chooses how many accounts (200 in `make crash`), half in rupiah and half in dollars.
"""

import random
from datetime import UTC, datetime, timedelta

import pytest

from billing.invoices import closing, store
from billing.invoices.model import MonthState
from billing.invoices.statement import to_minor
from billing.invoices.statements import statement_of
from billing.reconcile.service import Reconciler
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service as sync
from billing.sync import worker
from billing.sync.sender import Sender
from gateway.accounts import service as accounts
from gateway.clock import Month
from gateway.ids import uuid7
from gateway.ledger.store import export
from gateway.units import Currency
from tests.plugins.billing import fill_read_models, spend
from tests.plugins.cast import Person
from tests.plugins.proof import SEED, hand_in, length

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
NOVEMBER = Month("2026-11")
HOURS = [DECEMBER - timedelta(hours=hours) for hours in (1, 2, 30, 100)]
SETTLED = timedelta(minutes=6)
QUIET = timedelta(minutes=16)
LAST_SECONDS = 20

ADMIT = """
INSERT INTO request_intent (request_id, account_id, key_id, model, endpoint, stream, plan_id, billable, currency,
    book_id, admitted_at, period, day, input_tokens, output_tokens, reserved_tokens, deadline, heartbeat_at)
SELECT gen_random_uuid(), a.account_id, a.account_id, 'nusantara-base', 'responses', true, 'payg', true, a.currency,
    a.currency || '-1', $2::timestamptz + make_interval(secs => n), '2026-11', '2026-11-30', 1, 1, 2, $2, $2
FROM account a CROSS JOIN generate_series(0, $3 - 1) AS n WHERE a.account_id = ANY ($1::uuid[])
"""
SETTLE = """
WITH ended AS (
    UPDATE request_intent SET state = 'settled', closed_at = $1 WHERE state = 'open' RETURNING *
),
entry AS (
    INSERT INTO ledger_entry (
        entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, plan_id, period,
        input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
        output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source, end_reason, duration_ms)
    SELECT gen_random_uuid(), request_id, 'usage', admitted_at, $1, account_id, key_id, e.model, endpoint, plan_id, period,
        7654321, 0, 0, 3210987, 0, 0, 10865308, currency, e.book_id,
        7654321 * i.micro_per_mtok + 3210987 * o.micro_per_mtok, true, 'upstream', 'completed', 5
    FROM ended e
    JOIN price_rate i ON i.book_id = e.book_id AND i.model = e.model AND i.token_class = 'input_text'
    JOIN price_rate o ON o.book_id = e.book_id AND o.model = e.model AND o.token_class = 'output_text'
    RETURNING entry_id, account_id, currency, occurred_at, amount_pico
)
INSERT INTO billing_outbox (entry_id, account_id, currency, occurred_at, amount_pico) SELECT * FROM entry
"""


@pytest.fixture
def carry(shop):
    """Carry usage to Stripe and compare it, as the worker does."""
    sender = Sender(shop.db, shop.clock, shop.stripe, shop.settings)

    async def run():
        await worker.run(shop.db, shop.clock, sender, cutoff=sync.closed_before(shop.clock.now(), 300))
        shop.move_to(shop.clock.now() + QUIET)
        await Reconciler(shop.db, shop.clock, shop.stripe, max_reads=100_000).run(everybody=True)

    return run


async def somebody(shop, number):
    currency = list(Currency)[number % 2]
    email = f"person{number}@example.com"
    account = await accounts.create(shop.db, shop.clock, email=email, plan_id="free", currency=currency)
    return Person(email, account.account_id, uuid7(), "")


async def last_hour_is_frozen(db):
    return await db.fetchval("SELECT count(*) FROM stripe_batch WHERE window_start = $1", HOURS[0])


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_a_month_that_ends_while_requests_run_is_billed_to_the_minor_unit(shop, carry):
    dice = random.Random(SEED)
    people = [await somebody(shop, number) for number in range(length("people", 6))]
    for person in people:
        await shop.subscribed(person, "payg")
    everybody = [person.account_id for person in people]
    await spend(shop.db, everybody, HOURS, entries=dice.randint(5, 60), seed=SEED)
    await shop.db.execute(ADMIT, everybody, DECEMBER - timedelta(seconds=LAST_SECONDS), LAST_SECONDS)

    shop.move_to(DECEMBER + SETTLED)
    await carry()
    assert await last_hour_is_frozen(shop.db) == 0
    found = await closing.advance(shop.db, shop.clock, NOVEMBER)
    assert (found.state, found.obstacles[0].code) == (MonthState.CLOSING, "open_requests")

    await shop.db.execute(SETTLE, shop.clock.now())
    await spend(shop.db, everybody, [DECEMBER], entries=3, seed=SEED + 1)
    await fill_read_models(shop.db)
    await carry()
    assert await last_hour_is_frozen(shop.db) == len(people)
    shop.move_to(DECEMBER + timedelta(hours=2))
    await shop.catch_up()
    assert (await closing.advance(shop.db, shop.clock, NOVEMBER)).state is MonthState.CLOSED

    totals = {row.account_id: row.amount_pico for row in await store.period_totals(shop.db, NOVEMBER)}
    for person in people:
        await bills_what_was_used(shop, person, totals[person.account_id])
    hand_in(
        accounts=len(people),
        requests=await shop.db.fetchval("SELECT count(*) FROM ledger_entry WHERE period = $1", NOVEMBER),
        straddling=len(people) * LAST_SECONDS,
    )


async def bills_what_was_used(shop, person, total_pico):
    """The export's sum, the closed month's total, the statement and the invoice are one amount."""
    exported = [entry async for entry in export(shop.db, account_id=person.account_id, period=NOVEMBER)]
    statement = await statement_of(shop.db, person.account_id, NOVEMBER)
    invoices = await store.list_invoices(shop.db, account_id=person.account_id, limit=10)
    (invoice,) = [one for one in invoices if one.total]
    used_pico = sum(entry.amount_pico for entry in exported)
    assert used_pico == statement.usage_pico == total_pico > STRIPE_MONEY[statement.currency].meter_unit_pico
    assert to_minor(used_pico, statement.currency) == statement.usage_minor == invoice.total
    assert (statement.agrees, invoice.status) == (True, "paid")
