"""Sending: whatever Stripe and the network do, an event is counted once, and an operator sees what is stuck."""

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from billing.customers import service as customers
from billing.jobs import StripeWork
from billing.settings import StripeLimits
from billing.stripe.client import Stripe
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service, store, worker
from billing.sync.model import BatchNotFound, BatchNotRetryable, BatchState, Verdict
from billing.sync.sender import Sender
from gateway.accounts import service as accounts
from gateway.audit import service as audit
from gateway.ids import uuid7
from gateway.runtime import metrics
from gateway.units import Currency
from tests.plugins.billing import counted, outbox_units, pay_by_use, spend_exactly

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
UNIT = STRIPE_MONEY[Currency.IDR].meter_unit_pico
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def sync(seeded, clock, sender, sandbox):
    """Run the worker's job once; the sandbox's clock follows ours."""

    async def run(move=timedelta()):
        clock.move(move)
        if move:
            sandbox.move_to(int(clock.now().timestamp()))
        return await worker.run(seeded, clock, sender, cutoff=service.closed_before(clock.now(), 300))

    return run


async def the_batch(db):
    (row,) = await db.fetch("SELECT * FROM stripe_batch")
    return row


def events_posted(sandbox):
    return [r for r in sandbox.get("state")["requests"] if r["path"] == EVENTS and r["method"] == "POST"]


async def test_usage_arrives_and_is_counted_once(seeded, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    report = await sync()
    assert (report.frozen_entries, report.frozen_batches, report.accepted) == (1, 1, 1)
    assert counted(sandbox, consumer) == 7
    assert (await sync()).accepted == 0
    assert len(events_posted(sandbox)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reject", "status": 503},
        {"kind": "reject", "status": 500},
        {"kind": "reject", "status": 429},
        {"kind": "reject", "status": 429, "retry_after_s": 30},
        {"kind": "reject", "status": 409},
        {"kind": "reset"},
        {"kind": "commit_then_drop"},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}{fault.get('retry_after_s', '')}",
)
async def test_after_a_fault_the_same_event_is_sent_again(seeded, sandbox, sync, consumer, fault):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({**fault, "path": EVENTS})
    assert (await sync()).waiting == 1
    before = await the_batch(seeded)
    assert (await sync(timedelta(minutes=1))).accepted == 1
    after = await the_batch(seeded)
    assert (after["identifier"], after["idempotency_key"]) == (
        before["identifier"],
        before["idempotency_key"],
    )
    assert len({request["idempotency_key"] for request in events_posted(sandbox)}) == 1
    assert counted(sandbox, consumer) == 7


async def test_an_answer_that_is_not_waited_for_is_asked_for_again(
    seeded, clock, sandbox, sync, *, stripe_settings, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "slow_body", "wait_s": 5, "path": EVENTS})
    hasty = msgspec.structs.replace(stripe_settings, limits=StripeLimits(stripe_timeout_s=1))
    client = Stripe(hasty)
    sender = Sender(seeded, clock, client, hasty, dice=random.Random(1))
    assert (await worker.run(seeded, clock, sender, cutoff=TEN + timedelta(hours=1))).waiting == 1
    await client.close()
    assert (await sync(timedelta(minutes=1))).accepted == 1
    assert len({request["idempotency_key"] for request in events_posted(sandbox)}) == 1
    assert counted(sandbox, consumer) == 7


async def test_stripes_wait_is_honoured(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "reject", "status": 503, "retry_after_s": 600, "path": EVENTS})
    await sync()
    assert (await sync(timedelta(minutes=9))).accepted == 0
    assert (await sync(timedelta(minutes=1))).accepted == 1


async def test_that_stripe_has_the_event_already_means_accepted(seeded, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "commit_then_drop", "path": EVENTS})
    await sync()
    sandbox.faults({"kind": "reject", "status": 503, "path": EVENTS})
    # Stripe may forget the idempotency key before the identifier: then the answer is a refusal.
    await seeded.execute("ALTER TABLE stripe_batch DISABLE TRIGGER stripe_batch_frozen")
    await seeded.execute("UPDATE stripe_batch SET idempotency_key = 'another'")
    await seeded.execute("ALTER TABLE stripe_batch ENABLE TRIGGER stripe_batch_frozen")
    sandbox.faults()
    assert (await sync(timedelta(minutes=1))).accepted == 1
    assert events_posted(sandbox)[-1]["status"] == 400
    assert counted(sandbox, consumer) == 7


async def test_a_refused_key_stops_everything_and_loses_nothing(
    seeded, clock, sandbox, sync, *, stripe, consumer
):
    for hour in range(5):
        await spend_exactly(seeded, consumer, TEN + timedelta(hours=hour), 7 * UNIT)
    sandbox.faults({"kind": "reject", "status": 401, "path": EVENTS, "times": None})
    report = await sync()
    assert (report.circuit_open, report.accepted) == (True, 0)
    assert len(events_posted(sandbox)) == 1
    assert (await sync(timedelta(minutes=4))).circuit_open
    assert len(events_posted(sandbox)) == 1
    sandbox.faults()
    report = await sync(timedelta(minutes=2))
    assert (report.circuit_open, report.accepted) == (False, 5)
    assert counted(sandbox, consumer) == 35


async def test_an_account_whose_customer_is_gone_is_parked_until_it_has_another(
    seeded, clock, sandbox, sync, *, stripe, consumer
):
    await stripe.write(
        lambda sdk, options: sdk.v1.customers.delete_async(consumer.customer_id, None, options),
        idempotency_key="gone",
    )
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await spend_exactly(seeded, consumer, TEN + timedelta(hours=1), 2 * UNIT)
    await sync()
    assert len(events_posted(sandbox)) == 1
    status = await service.status(seeded)
    assert [parked.account_id for parked in status.parked] == [consumer.account_id]
    (event,) = await audit.list_events(
        seeded, account_id=consumer.account_id, action="customer:park", since=None, limit=10
    )
    assert (event.actor, event.object_id) == ("nusagate", consumer.customer_id)
    assert status.waiting == 2
    await spend_exactly(seeded, consumer, TEN + timedelta(hours=2), UNIT)
    assert (await sync(timedelta(hours=1))).frozen_entries == 0
    fresh = await stripe.write(
        lambda sdk, options: sdk.v1.customers.create_async({"email": "sari@example.com"}, options),
        idempotency_key="new",
    )
    await seeded.execute(
        "UPDATE stripe_customer SET customer_id = $1, generation = 2, state = 'active', parked_reason = NULL",
        fresh.id,
    )
    assert (await sync()).accepted == 3
    assert sandbox.sum_of(fresh.id, "llm_spend_idr") == "10"
    assert await seeded.fetchval("SELECT count(*) FROM stripe_batch WHERE generation = 2") == 2
    assert await seeded.fetchval("SELECT count(*) FROM stripe_batch_decision") == 2
    assert all(check.ok for check in await service.verify(seeded))


async def test_an_account_that_a_wrong_key_parked_is_given_its_customer_back(
    seeded, clock, sandbox, sync, *, stripe, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await service.freeze_due(seeded, clock, service.closed_before(clock.now(), 300))
    await customers.park(seeded, clock, consumer.customer_id, reason="stripe_no_customer")
    assert (await sync()).accepted == 0
    account = await accounts.get(seeded, consumer.account_id)
    await customers.remap(seeded, clock, stripe, account, customer_id=consumer.customer_id)
    assert (await sync()).accepted == 1
    assert counted(sandbox, consumer) == 7


async def test_what_the_old_customer_may_have_is_not_sent_to_the_new_one(
    seeded, clock, sandbox, sync, *, stripe, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "commit_then_drop", "path": EVENTS})
    await sync()
    await seeded.execute("UPDATE stripe_customer SET customer_id = 'cus_other', generation = 2")
    await sync(timedelta(minutes=5))
    assert (await the_batch(seeded))["state"] == "unproven"


async def test_without_a_meter_the_batch_is_a_dead_letter_and_an_operator_brings_it_back(
    seeded, clock, sandbox, sync, *, stripe, consumer
):
    meters = await stripe.read(lambda sdk: sdk.v1.billing.meters.list_async({"status": "active"}))
    meter = next(meter for meter in meters.data if meter.event_name == "llm_spend_idr")
    await stripe.write(
        lambda sdk, options: sdk.v1.billing.meters.deactivate_async(meter.id, None, options),
        idempotency_key="off",
    )
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    assert (await sync()).dead == 1
    (dead,) = (await service.status(seeded)).troubled
    assert dead.last_error == "stripe_no_meter:archived_meter"
    (event,) = await audit.list_events(
        seeded, account_id=consumer.account_id, action="batch:give_up", since=None, limit=10
    )
    assert (event.object_id, event.reason) == (str(dead.batch_id), dead.last_error)
    assert (await sync(timedelta(days=2))).accepted == 0
    await stripe.write(
        lambda sdk, options: sdk.v1.billing.meters.reactivate_async(meter.id, None, options),
        idempotency_key="on",
    )
    async with seeded.acquire() as connection, connection.transaction():
        again = await service.retry(connection, clock, dead.batch_id, reason="meter is back", actor="dewi")
    assert (again.state, again.generation) == ("waiting", 2)
    assert (await sync()).accepted == 1
    assert counted(sandbox, consumer) == 7
    decision = await seeded.fetchrow("SELECT * FROM stripe_batch_decision")
    assert (decision["reason"], decision["actor"], decision["identifier"]) == (
        "meter is back",
        "dewi",
        dead.identifier,
    )


async def test_usage_older_than_34_days_is_never_sent(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, clock.now() - timedelta(days=34, minutes=1), 7 * UNIT)
    await spend_exactly(seeded, consumer, clock.now() - timedelta(days=33), 2 * UNIT)
    report = await sync()
    assert (report.dead, report.accepted) == (1, 1)
    assert len(events_posted(sandbox)) == 1
    (dead,) = (await service.status(seeded)).troubled
    async with seeded.acquire() as connection, connection.transaction():
        with pytest.raises(BatchNotRetryable, match="older than 34 days"):
            await service.retry(connection, clock, dead.batch_id, reason="please", actor="dewi")


async def test_after_twenty_hours_of_not_knowing_nothing_is_sent_blindly(
    seeded, clock, sandbox, sync, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "commit_then_drop", "path": EVENTS})
    await sync()
    sent = len(events_posted(sandbox))
    assert (await sync(timedelta(hours=20))).unproven == 1
    assert (await sync(timedelta(hours=30))).accepted == 0
    assert len(events_posted(sandbox)) == sent
    assert counted(sandbox, consumer) == 7


async def test_a_stored_failure_is_not_asked_for_again_and_again(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    sandbox.faults({"kind": "error_stored", "path": EVENTS, "committed": True})
    await sync()
    assert (await sync(timedelta(minutes=1))).unproven == 1
    assert len(events_posted(sandbox)) == 2


async def test_the_lease_of_a_dead_worker_ends_and_the_batch_is_sent_once(
    seeded, clock, sandbox, sync, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await service.freeze_due(seeded, clock, service.closed_before(clock.now(), 300))
    now = clock.now()
    assert await store.claim(seeded, now=now, lease_until=now + timedelta(minutes=2), busy=[], limit=9)
    assert (await sync(timedelta(minutes=1))).accepted == 0
    assert (await sync(timedelta(minutes=1))).accepted == 1
    assert counted(sandbox, consumer) == 7


async def test_an_old_worker_cannot_undo_what_a_newer_one_wrote(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await service.freeze_due(seeded, clock, service.closed_before(clock.now(), 300))
    now = clock.now()
    (old,) = await store.claim(seeded, now=now, lease_until=now, busy=[], limit=9)
    assert (await sync()).accepted == 1
    late = verdict_about(old, "dead", now)
    await store.record(seeded, [late], now)
    assert (await the_batch(seeded))["state"] == "accepted"


async def test_what_stripe_found_wrong_later_is_a_dead_letter(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await sync()
    batch = await the_batch(seeded)
    async with seeded.acquire() as connection, connection.transaction():
        assert await service.rejected_later(
            connection, clock, batch["identifier"], "meter_event_invalid_value"
        )
        assert not await service.rejected_later(connection, clock, "somebody else's", "no_meter")
    assert (await the_batch(seeded))["state"] == "dead"
    (event,) = await audit.list_events(
        seeded, account_id=consumer.account_id, action="batch:give_up", since=None, limit=10
    )
    assert (event.object_id, event.reason) == (str(batch["batch_id"]), "meter_event_invalid_value")


async def test_a_customer_that_was_found_missing_later_parks_the_account(
    seeded, clock, sandbox, sync, consumer
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await sync()
    batch = await the_batch(seeded)
    async with seeded.acquire() as connection, connection.transaction():
        await service.rejected_later(connection, clock, batch["identifier"], "meter_event_customer_not_found")
    again = await the_batch(seeded)
    assert (again["state"], again["generation"]) == ("waiting", 2)
    assert await seeded.fetchval("SELECT state FROM stripe_customer") == "parked"
    assert (await sync(timedelta(hours=1))).accepted == 0


async def test_only_dead_and_accepted_batches_are_retried(seeded, clock, sandbox, sync, consumer):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    await sync()
    batch_id = (await the_batch(seeded))["batch_id"]
    async with seeded.acquire() as connection, connection.transaction():
        doubted = await service.retry(connection, clock, batch_id, reason="not on the invoice", actor="dewi")
        assert (doubted.state, doubted.generation) == ("unproven", 1)
        with pytest.raises(BatchNotRetryable, match="reconcile run"):
            await service.retry(connection, clock, batch_id, reason="again", actor="dewi")
        with pytest.raises(BatchNotFound):
            await service.retry(connection, clock, uuid7(), reason="what", actor="dewi")


async def test_many_accounts_in_both_currencies_come_out_to_the_unit(seeded, clock, sandbox, sync, stripe):
    people = [
        await pay_by_use(seeded, clock, stripe, f"p{n}@example.com", list(Currency)[n % 2]) for n in range(8)
    ]
    for n, person in enumerate(people):
        for hour in range(6):
            await spend_exactly(
                seeded, person, TEN + timedelta(hours=hour, minutes=n), 123_456_789_123 * (n + 1) + hour
            )
    await sync()
    assert {counted(sandbox, person) - await outbox_units(seeded, person) for person in people} == {0}


def verdict_about(batch, state, now):
    return Verdict(
        batch_id=batch.batch_id, generation=batch.generation, attempts=batch.attempts, state=BatchState(state),
        next_attempt_at=now, first_attempt_at=None,
    )  # fmt: skip


async def test_the_jobs_of_the_worker_carry_usage_and_prove_it(
    seeded, clock, sandbox, *, consumer, stripe_settings
):
    await spend_exactly(seeded, consumer, TEN, 7 * UNIT)
    work = StripeWork(seeded, clock, stripe_settings)
    jobs = {job.name: job for job in work.jobs()}
    await jobs["stripe_sync"].run(seeded)
    assert counted(sandbox, consumer) == 7
    clock.move(timedelta(days=1))
    for _ in range(20):
        await jobs["stripe_reconcile"].run(seeded)
        clock.move(timedelta(days=1))
    assert (await the_batch(seeded))["state"] == "confirmed"
    await seeded.execute("UPDATE stripe_carry SET frozen_units = 6")
    await jobs["stripe_verify"].run(seeded)
    published = metrics.ledger_violations.labels("I3 batches and carry equal the outbox")._value.get()
    assert published == 1
    await work.close()
