"""Reconciling: what Stripe has is confirmed, what it certainly does not have goes out again, and the rest is shown."""

from datetime import UTC, datetime, timedelta

from billing.jobs import RECONCILE_EVERY_S
from billing.reconcile.service import compare_lines
from billing.stripe import meters
from billing.stripe.invoices import MeteredLine
from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service
from gateway.units import Currency
from tests.plugins.billing import counted, outbox_units, spend_exactly

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
UNIT = STRIPE_MONEY[Currency.IDR].meter_unit_pico
EVENTS = "/v1/billing/meter_events"


async def make_unproven(desk, consumer, *, arrived, value=7):
    """One batch whose only attempt had an unknown outcome, more than 20 hours ago."""
    await spend_exactly(desk.db, consumer, TEN, value * UNIT)
    desk.sandbox.faults({"kind": "commit_then_drop" if arrived else "reset", "path": EVENTS})
    await desk.sync()
    desk.wait(timedelta(hours=21))
    await desk.sync()
    assert await desk.states() == ["unproven"]
    desk.wait(timedelta(minutes=10))


async def test_what_stripe_counts_is_confirmed(desk, consumer):
    for hour in (0, 1, 30):
        await spend_exactly(desk.db, consumer, TEN - timedelta(hours=hour), 7 * UNIT)
    await desk.sync()
    desk.wait(timedelta(minutes=10))
    report = await desk.reconcile()
    assert (report.equal, report.differences) == (3, 0)
    assert await desk.states() == ["confirmed"] * 3
    assert await desk.findings() == []


async def test_nothing_is_said_before_ten_quiet_minutes(desk, consumer):
    await spend_exactly(desk.db, consumer, TEN, 7 * UNIT)
    await desk.sync()
    desk.wait(timedelta(minutes=9))
    assert (await desk.reconcile()).unsettled == 1
    assert await desk.states() == ["accepted"]


async def test_an_unproven_batch_that_arrived_is_confirmed_and_never_sent_again(desk, consumer):
    await make_unproven(desk, consumer, arrived=True)
    report = await desk.reconcile(everybody=False)
    assert (report.found, report.sent_again) == (1, 0)
    await desk.sync()
    assert await desk.states() == ["confirmed"]
    assert counted(desk.sandbox, consumer) == 7


async def test_an_unproven_batch_that_is_missing_goes_out_again_after_it_was_missed_twice(desk, consumer):
    await make_unproven(desk, consumer, arrived=False)
    assert (await desk.reconcile(everybody=False)).differences == 1
    (finding,) = await desk.findings()
    assert (finding.kind, finding.expected, finding.found) == ("missing", 7, 0)
    desk.wait(timedelta(minutes=14))
    assert (await desk.reconcile(everybody=False)).sent_again == 0
    desk.wait(timedelta(minutes=1))
    assert (await desk.reconcile(everybody=False)).sent_again == 1
    assert await desk.findings() == []
    assert (await desk.sync()).accepted == 1
    assert counted(desk.sandbox, consumer) == 7
    desk.wait(timedelta(minutes=10))
    await desk.reconcile()
    assert await desk.states() == ["confirmed"]
    decision = await desk.db.fetchrow("SELECT * FROM stripe_batch_decision")
    assert (decision["actor"], decision["generation"]) == ("reconcile", 1)


async def test_of_several_doubtful_batches_in_an_hour_only_the_missing_ones_go_out_again(desk, consumer):
    sent = []
    for n, arrived in enumerate((True, False, True, False)):
        await spend_exactly(desk.db, consumer, TEN + timedelta(minutes=n), (10**n) * UNIT)
        desk.sandbox.faults({"kind": "commit_then_drop" if arrived else "reset", "path": EVENTS})
        await desk.sync()
        sent.append(10**n)
    desk.wait(timedelta(hours=21))
    await desk.sync()
    assert await desk.states() == ["unproven"] * 4
    desk.wait(timedelta(minutes=10))
    await desk.reconcile(everybody=False)
    desk.wait(timedelta(minutes=15))
    report = await desk.reconcile(everybody=False)
    assert (report.found, report.sent_again) == (2, 2)
    desk.sandbox.faults()
    await desk.sync()
    assert counted(desk.sandbox, consumer) == sum(sent)


async def test_a_stored_failure_is_resolved_either_way(desk, consumer):
    for hour, committed in enumerate((True, False)):
        await spend_exactly(desk.db, consumer, TEN + timedelta(hours=hour), (hour + 1) * UNIT)
        desk.sandbox.faults({"kind": "error_stored", "path": EVENTS, "committed": committed})
        await desk.sync()
        desk.wait(timedelta(minutes=1))
        await desk.sync()
    assert await desk.states() == ["unproven", "unproven"]
    desk.wait(timedelta(minutes=15))
    await desk.reconcile(everybody=False)
    desk.wait(timedelta(minutes=15))
    await desk.reconcile(everybody=False)
    await desk.sync()
    assert counted(desk.sandbox, consumer) == 3


async def test_a_sum_that_stripe_does_not_show_yet_is_not_taken_for_missing(desk, consumer):
    desk.sandbox.post("settings", visibility_delay_s=20 * 60)
    await make_unproven(desk, consumer, arrived=True)
    desk.sandbox.post("settings", visibility_delay_s=22 * 3600)
    await desk.reconcile(everybody=False)
    desk.wait(timedelta(minutes=14))
    desk.sandbox.post("settings", visibility_delay_s=0)
    assert (await desk.reconcile(everybody=False)).found == 1
    assert counted(desk.sandbox, consumer) == 7


async def test_an_accepted_batch_that_is_missing_is_shown_and_an_operator_decides(desk, consumer):
    await spend_exactly(desk.db, consumer, TEN, 7 * UNIT)
    await desk.sync()
    batch = await desk.db.fetchrow("SELECT * FROM stripe_batch")
    await desk.stripe.write(
        lambda sdk, options: sdk.v1.billing.meter_event_adjustments.create_async(
            {"event_name": "llm_spend_idr", "type": "cancel", "cancel": {"identifier": batch["identifier"]}},
            options,
        ),
        idempotency_key="cancel",
    )
    desk.wait(timedelta(minutes=30))
    await desk.reconcile()
    (finding,) = await desk.findings()
    assert (finding.kind, finding.expected, finding.found) == ("missing", 7, 0)
    async with desk.db.acquire() as connection, connection.transaction():
        await service.retry(connection, desk.clock, batch["batch_id"], reason="was cancelled", actor="dewi")
    desk.wait(timedelta(minutes=15))
    assert (await desk.reconcile(everybody=False)).sent_again == 1
    await desk.sync()
    assert counted(desk.sandbox, consumer) == 7


async def test_more_than_we_sent_is_a_surplus_and_nothing_is_confirmed(desk, consumer):
    await spend_exactly(desk.db, consumer, TEN, 7 * UNIT)
    await desk.sync()
    await meters.send(
        desk.stripe,
        MeterEvent(
            event_name="llm_spend_idr",
            identifier="foreign",
            event_at=TEN,
            customer_id=consumer.customer_id,
            value=3,
        ),
        idempotency_key="foreign",
    )
    desk.wait(timedelta(minutes=10))
    await desk.reconcile()
    (finding,) = await desk.findings()
    assert (finding.kind, finding.expected, finding.found) == ("surplus", 7, 10)
    assert await desk.states() == ["accepted"]


async def test_reads_stay_inside_the_budget_and_the_next_run_goes_on(desk, consumer):
    for days in range(0, 20, 5):
        await spend_exactly(desk.db, consumer, TEN - timedelta(days=days), UNIT)
    await desk.sync()
    desk.wait(timedelta(minutes=10))
    assert (await desk.reconcile(max_reads=3)).equal == 2
    assert (await desk.reconcile(max_reads=3)).equal == 2
    assert await desk.states() == ["confirmed"] * 4


async def test_a_month_of_runs_with_nothing_to_compare_stays_inside_the_smallest_allocation(desk, consumer):
    await subscribe(desk, consumer)
    reads_a_run = (await desk.reconcile(everybody=False)).reads
    runs = timedelta(days=31) // timedelta(seconds=RECONCILE_EVERY_S)
    assert 0 < reads_a_run * runs < 10_000


async def test_everybody_has_a_turn_within_twenty_days(desk, consumer):
    confirmed = []
    for _ in range(20):
        await spend_exactly(desk.db, consumer, desk.clock.now() - timedelta(hours=2), UNIT)
        await desk.sync()
        desk.wait(timedelta(days=1))
        confirmed.append((await desk.reconcile(everybody=False)).equal)
    assert len([count for count in confirmed if count]) == 1


async def test_a_draft_invoice_confirms_a_month_and_shows_what_is_missing(desk, clock, consumer):
    await spend_exactly(desk.db, consumer, TEN, 7 * UNIT)
    await spend_exactly(desk.db, consumer, TEN + timedelta(hours=3), 5 * UNIT)
    await desk.sync()
    desk.wait(timedelta(minutes=10))

    def line(quantity):
        return MeteredLine(
            invoice_id="in_1", customer_id=consumer.customer_id, currency=Currency.IDR, quantity=quantity,
            start=datetime(2026, 11, 1, tzinfo=UTC), end=datetime(2026, 12, 1, tzinfo=UTC),
        )  # fmt: skip

    assert (await compare_lines(desk.db, clock, [line(11)])).differences == 1
    (finding,) = await desk.findings()
    assert (finding.source, finding.kind, finding.expected, finding.found) == ("invoice", "missing", 12, 11)
    assert (await compare_lines(desk.db, clock, [line(12)])).equal == 1
    assert await desk.findings() == []
    assert await desk.states() == ["confirmed", "confirmed"]


async def test_the_draft_of_a_subscription_is_read_and_compared(desk, clock, consumer):
    await subscribe(desk, consumer)
    desk.wait(timedelta(days=7))
    await spend_exactly(desk.db, consumer, datetime(2026, 11, 30, 23, 59, tzinfo=UTC), 9 * UNIT)
    desk.wait(datetime(2026, 12, 1, 0, 5, tzinfo=UTC) - clock.now())
    await desk.sync()
    desk.wait(timedelta(minutes=15))
    report = await desk.reconcile(everybody=False)
    assert (report.equal, report.differences) == (1, 0)
    assert await desk.states() == ["confirmed"]
    assert counted(desk.sandbox, consumer) == await outbox_units(desk.db, consumer) == 9


async def subscribe(desk, consumer):
    """Subscribe an account to usage at Rp 0.001 a unit, from now on, in months of the calendar."""
    ids = await meters.find_meters(desk.stripe)
    price = await desk.stripe.write(
        lambda sdk, options: sdk.v1.prices.create_async(
            {
                "currency": "idr",
                "unit_amount_decimal": STRIPE_MONEY[Currency.IDR].unit_amount_decimal,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": ids[Currency.IDR]},
                "product_data": {"name": "Usage"},
            },
            options,
        ),
        idempotency_key="price",
    )
    card = await desk.stripe.write(
        lambda sdk, options: sdk.v1.payment_methods.attach_async(
            "pm_card_visa", {"customer": consumer.customer_id}, options
        ),
        idempotency_key="card",
    )
    await desk.stripe.write(
        lambda sdk, options: sdk.v1.subscriptions.create_async(
            {
                "customer": consumer.customer_id,
                "items": [{"price": price.id}],
                "default_payment_method": card.id,
                "billing_cycle_anchor": int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()),
            },
            options,
        ),
        idempotency_key="subscription",
    )
    await desk.db.execute(
        "INSERT INTO stripe_price VALUES ($1, 'use', 'payg', 'idr', 'metered', '0.1', $2)",
        price.id, desk.clock.now(),
    )  # fmt: skip
