"""A surplus at Stripe is taken back once, by the way that still works, and the next comparison closes the difference."""

import sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from billing.corrections import service
from billing.corrections.model import CorrectionState, NotCorrectable, Way
from billing.corrections.service import Order
from billing.invoices import store as invoices
from billing.invoices.statement import to_minor
from billing.invoices.statements import statement_of
from billing.stripe import meters
from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from billing.sync import store as batches
from gateway.audit.model import Source
from gateway.clock import month_end, month_of, month_start
from gateway.runtime.failpoints import EXIT_STATUS, NAMES
from gateway.units import Currency
from tests.fakes.processes import ChildProcess
from tests.plugins.billing import broken_invariants, counted, fill_read_models, outbox_units, spend

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
SURPLUS = 20_000
"""Rp 20 in the units of the meter, so that an invoice shows it."""
ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
EVENTS = "/v1/billing/meter_events"
GRANTS = "/v1/billing/credit_grants"


@pytest.fixture
async def finding(desk, consumer):
    """A difference: Stripe has an event of somebody else's."""
    await spend(desk.db, [consumer.account_id], [TEN], entries=3)
    await fill_read_models(desk.db)
    await desk.sync()
    event = MeterEvent(
        event_name="llm_spend_idr", identifier="foreign", event_at=TEN, customer_id=consumer.customer_id, value=SURPLUS
    )  # fmt: skip
    await meters.send(desk.stripe, event, idempotency_key="foreign")
    desk.wait(timedelta(minutes=10))
    await desk.reconcile()
    (found,) = await desk.findings()
    assert (found.kind, found.found - found.expected) == ("surplus", SURPLUS)
    return found


def order(finding, *, identifier=None):
    return Order(
        finding_id=finding.finding_id,
        reason="counted twice",
        actor="dewi",
        source=Source.CLI,
        identifier=identifier,
    )


async def correct(desk, finding, **words):
    return await service.correct(desk.db, desk.clock, desk.stripe, order(finding, **words))


async def assert_put_right(desk, consumer, *, corrections=1):
    """Stripe and ledger agree, the difference is closed by comparing, and the ledger says so in one entry of nothing."""
    assert counted(desk.sandbox, consumer) == await outbox_units(desk.db, consumer)
    desk.wait(timedelta(minutes=15))
    await desk.reconcile()
    assert await desk.findings() == []
    rows = await desk.db.fetch(
        "SELECT amount_pico, reason, actor FROM ledger_entry WHERE kind = 'adjustment'"
    )
    assert [tuple(row) for row in rows] == [(0, "counted twice", "dewi")] * corrections
    assert await desk.db.fetchval("SELECT count(*) FROM audit_event WHERE action = 'finding:correct'") == 1
    assert await broken_invariants(desk.db) == []


async def test_a_dry_run_names_the_way_and_changes_nothing(desk, consumer, finding):
    seen = counted(desk.sandbox, consumer)
    found = await service.preview(desk.db, desk.clock, order(finding, identifier="foreign"))
    assert (found.way, found.units, found.identifier) == (Way.CANCEL, SURPLUS, "foreign")
    assert counted(desk.sandbox, consumer) == seen
    assert await desk.db.fetchval("SELECT count(*) FROM stripe_correction") == 0


async def test_an_event_younger_than_a_day_is_cancelled(desk, consumer, finding):
    found = await correct(desk, finding, identifier="foreign")
    assert (found.way, found.state) == (Way.CANCEL, CorrectionState.DONE)
    await assert_put_right(desk, consumer)


async def test_an_earlier_sending_of_a_batch_that_counted_after_all_is_found_and_cancelled(desk, consumer):
    await spend(desk.db, [consumer.account_id], [TEN], entries=3)
    await fill_read_models(desk.db)
    await desk.sync()
    batch_id = await desk.db.fetchval("SELECT batch_id FROM stripe_batch")
    async with desk.db.acquire() as connection, connection.transaction():
        await batches.reissue(connection, batch_id, reason="not seen", actor="dewi", now=desk.clock.now())
    await desk.sync()
    desk.wait(timedelta(minutes=10))
    await desk.reconcile()
    (twice,) = await desk.findings()
    assert twice.found == 2 * twice.expected
    found = await correct(desk, twice)
    assert (found.way, found.identifier) == (Way.CANCEL, f"ng1:{batch_id.hex}:1")
    await assert_put_right(desk, consumer)


async def test_without_a_known_event_its_opposite_is_sent_in_the_same_hour(desk, consumer, finding):
    found = await correct(desk, finding)
    assert (found.way, found.state) == (Way.EVENT, CorrectionState.DONE)
    assert found.event_at == TEN + timedelta(minutes=59, seconds=59)
    await assert_put_right(desk, consumer)


async def test_an_event_that_cannot_be_cancelled_any_more_is_followed_by_its_opposite(
    desk, consumer, finding
):
    desk.wait(timedelta(hours=24))
    found = await correct(desk, finding, identifier="foreign")
    assert (found.way, found.state) == (Way.EVENT, CorrectionState.DONE)
    states = await desk.db.fetch("SELECT way, state FROM stripe_correction ORDER BY created_at, way")
    assert {tuple(row) for row in states} == {("cancel", "failed"), ("event", "done")}
    await assert_put_right(desk, consumer)


async def bill(desk, consumer, billed):
    """Let an invoice of the month be final."""
    await desk.db.execute(
        "INSERT INTO stripe_price VALUES ('price_use', 'use', 'payg', 'idr', 'metered', '0.1', $1)", TEN
    )
    await desk.db.execute(
        "INSERT INTO stripe_invoice VALUES ('in_1', $1, $2, NULL, 'N-1', 'paid', NULL, 'idr', $3, $4, $5, $5, $5, 0, 1,"
        " NULL, $4, $4, $4, NULL, NULL, jsonb_build_array(jsonb_build_object('description', 'usage', 'price_id',"
        " 'price_use', 'quantity', '1', 'proration', false, 'amount_minor', $5::bigint, 'period_start', $3::timestamptz, 'period_end', $4::timestamptz)), $4)",
        consumer.account_id, consumer.customer_id, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), billed,
    )  # fmt: skip


async def granted(desk, consumer):
    page = await desk.stripe.read(
        lambda sdk: sdk.v1.billing.credit_grants.list_async({"customer": consumer.customer_id})
    )
    return [grant.amount.monetary.value for grant in page.data]


async def test_what_is_on_a_final_invoice_is_made_good_by_credit_to_the_minor_unit(desk, consumer, finding):
    unit = STRIPE_MONEY[Currency.IDR].meter_unit_pico
    cost = await outbox_units(desk.db, consumer) * unit
    minor = 10**10
    billed = (cost + SURPLUS * unit + minor // 2) // minor
    await bill(desk, consumer, billed)
    found = await correct(desk, finding, identifier="foreign")
    assert (found.way, found.state) == (Way.CREDIT, CorrectionState.DONE)
    assert found.credit_minor == SURPLUS // 10
    assert await granted(desk, consumer) == [SURPLUS // 10]
    desk.wait(timedelta(minutes=15))
    await desk.reconcile()
    assert await desk.findings() == []
    async with desk.db.acquire() as connection, connection.transaction():
        statement = await statement_of(connection, consumer.account_id, month_of(TEN))
        (month,) = await invoices.billed_usage(
            connection, month_of(TEN), month_start(month_of(TEN)), month_end(month_of(TEN))
        )
    assert statement.agrees is True
    assert month.billed_minor == to_minor(month.amount_pico, Currency.IDR) == statement.usage_minor


@pytest.mark.parametrize("fault", ["commit_then_drop", "reset"])
@pytest.mark.parametrize(("identifier", "path"), [("foreign", ADJUSTMENTS), (None, EVENTS)])
async def test_an_unknown_outcome_is_repeated_as_it_was_and_counts_once(
    desk, consumer, finding, fault, identifier, path
):
    desk.sandbox.faults({"kind": fault, "path": path})
    first = await correct(desk, finding, identifier=identifier)
    assert (first.state, first.last_error) == (CorrectionState.WAITING, "stripe_unreachable")
    again = await correct(desk, finding, identifier=identifier)
    assert (again.correction_id, again.state) == (first.correction_id, CorrectionState.DONE)
    assert (await correct(desk, finding, identifier=identifier)).correction_id == first.correction_id
    await assert_put_right(desk, consumer)


async def test_after_twenty_hours_only_a_comparison_tells_whether_it_arrived(desk, consumer, finding):
    desk.sandbox.faults({"kind": "reset", "path": EVENTS})
    first = await correct(desk, finding)
    desk.wait(timedelta(hours=21))
    with pytest.raises(NotCorrectable, match="reconcile run"):
        await correct(desk, finding)
    await desk.reconcile()
    second = await correct(desk, finding)
    assert second.correction_id != first.correction_id
    await assert_put_right(desk, consumer)


@pytest.mark.parametrize("fault", ["commit_then_drop", "reset"])
async def test_credit_whose_answer_was_lost_is_granted_once_however_late_it_is_typed_again(
    desk, consumer, finding, fault
):
    await bill(desk, consumer, SURPLUS // 10)
    desk.sandbox.faults({"kind": fault, "path": GRANTS})
    first = await correct(desk, finding)
    assert (first.way, first.state) == (Way.CREDIT, CorrectionState.WAITING)
    for _ in range(2):
        desk.wait(timedelta(hours=25))
        await desk.reconcile()
    again = await correct(desk, finding)
    assert (again.correction_id, again.state) == (first.correction_id, CorrectionState.DONE)
    assert await granted(desk, consumer) == [SURPLUS // 10]


async def test_a_correction_whose_answer_was_lost_is_done_when_the_difference_is_gone(
    desk, consumer, finding
):
    desk.sandbox.faults({"kind": "commit_then_drop", "path": EVENTS})
    await correct(desk, finding)
    desk.wait(timedelta(minutes=15))
    await desk.reconcile()
    assert (await correct(desk, finding)).state is CorrectionState.DONE
    await assert_put_right(desk, consumer)


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("correct.")))
async def test_a_command_that_dies_at_any_point_is_typed_again_and_the_surplus_is_gone_once(
    desk, consumer, finding, database_url, tmp_path, name
):
    def type_in(failpoint=None):
        process = ChildProcess(
            [
                sys.executable, "-m", "tests.fakes.sync_worker", f"correct:{finding.finding_id}", database_url,
                desk.sandbox.url, str(int(desk.clock.now().timestamp())), "1",
            ],
            output=tmp_path / "correct.log",
            env={"NUSAGATE_FAILPOINT": failpoint} if failpoint else None,
        )  # fmt: skip
        status = process.wait(deadline_s=120)
        assert status in {0, EXIT_STATUS}, process.output
        return status

    assert type_in(name) == EXIT_STATUS
    assert type_in() == 0
    await assert_put_right(desk, consumer)


async def test_what_is_no_surplus_is_not_corrected(desk, consumer, finding):
    identifier = await desk.db.fetchval("SELECT identifier FROM stripe_batch")
    with pytest.raises(NotCorrectable, match="batch of ours"):
        await correct(desk, finding, identifier=identifier)
    await desk.db.execute("UPDATE reconcile_finding SET kind = 'missing'")
    with pytest.raises(NotCorrectable, match="Only a surplus"):
        await correct(desk, finding)
    await desk.db.execute("UPDATE reconcile_finding SET resolved_at = now()")
    with pytest.raises(NotCorrectable, match="is resolved"):
        await correct(desk, finding)
    with pytest.raises(NotCorrectable, match="There is no difference"):
        await service.correct(
            desk.db, desk.clock, desk.stripe,
            Order(finding_id=uuid4(), reason="x", actor="dewi", source=Source.CLI),
        )  # fmt: skip


async def test_what_a_correction_says_is_frozen(desk, finding):
    await correct(desk, finding)
    for statement in ("UPDATE stripe_correction SET units = 1", "DELETE FROM stripe_correction"):
        with pytest.raises(asyncpg.RestrictViolationError, match="frozen"):
            await desk.db.execute(statement)
