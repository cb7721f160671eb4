"""Freezing: usage becomes batches, hour by hour, and not a pico is lost or doubled on the way."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from billing.stripe.money import STRIPE_MONEY
from billing.sync import service
from billing.sync.model import payload_sha256
from billing.sync.store import CHECKS, claim
from gateway.clock import Month
from gateway.units import Currency
from tests.plugins.billing import outbox_units, pay_by_use, spend, spend_exactly

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
MILLI_RUPIAH = STRIPE_MONEY[Currency.IDR].meter_unit_pico


async def freeze(db, clock):
    return await service.freeze_due(db, clock, service.closed_before(clock.now(), 300))


async def batches(db):
    return await db.fetch("SELECT * FROM stripe_batch ORDER BY window_start, frozen_at")


async def carry(db):
    row = await db.fetchrow("SELECT * FROM stripe_carry")
    return int(row["cum_pico"]) - row["frozen_units"] * MILLI_RUPIAH


async def assert_proved(db):
    assert [check.invariant for check in await service.verify(db) if not check.ok] == []


def test_an_hour_is_complete_some_minutes_after_its_end():
    assert service.closed_before(TEN + timedelta(minutes=4), 300) == TEN - HOUR
    assert service.closed_before(TEN + timedelta(minutes=5), 300) == TEN


async def test_one_hour_of_an_account_becomes_one_batch(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN + timedelta(minutes=7, seconds=3.5), 5 * MILLI_RUPIAH)
    await spend_exactly(seeded, consumer, TEN + timedelta(minutes=59), 2 * MILLI_RUPIAH)
    frozen = await freeze(seeded, clock)
    assert (frozen.batches, frozen.empty, frozen.entries) == (1, 0, 2)
    (batch,) = await batches(seeded)
    assert (batch["value"], batch["entries"], batch["state"]) == (7, 2, "waiting")
    assert (batch["window_start"], batch["period"]) == (TEN, "2026-11")
    assert batch["event_at"] == TEN + timedelta(minutes=7, seconds=3)
    assert (batch["customer_id"], batch["event_name"]) == (consumer.customer_id, "llm_spend_idr")
    await assert_proved(seeded)


async def test_what_is_frozen_is_exactly_what_is_sent_later(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, 5 * MILLI_RUPIAH)
    await freeze(seeded, clock)
    (leased,) = await claim(seeded, now=clock.now(), lease_until=clock.now() + HOUR, busy=[], limit=10)
    assert payload_sha256(leased.event) == leased.payload_sha256


async def test_freezing_again_changes_nothing(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, 5 * MILLI_RUPIAH)
    await freeze(seeded, clock)
    assert (await freeze(seeded, clock)).entries == 0
    assert len(await batches(seeded)) == 1


async def test_the_remainder_below_a_unit_is_carried_on(seeded, clock, consumer):
    for hours, pico in enumerate((MILLI_RUPIAH - 1, MILLI_RUPIAH - 1, 2, 5)):
        await spend_exactly(seeded, consumer, TEN + hours * HOUR, pico)
    await freeze(seeded, clock)
    assert [(b["value"], b["state"]) for b in await batches(seeded)] == [
        (0, "empty"), (1, "waiting"), (1, "waiting"), (0, "empty"),
    ]  # fmt: skip
    assert await carry(seeded) == 5
    await assert_proved(seeded)


async def test_the_carry_goes_on_over_separate_freezings(seeded, clock, consumer):
    for hours in range(5):
        await spend_exactly(seeded, consumer, TEN + hours * HOUR, MILLI_RUPIAH * 3 // 4)
        await freeze(seeded, clock)
    assert [b["value"] for b in await batches(seeded)] == [0, 1, 1, 1, 0]
    assert await carry(seeded) == MILLI_RUPIAH * 3 // 4
    await assert_proved(seeded)


async def test_late_usage_of_a_frozen_hour_makes_a_batch_of_the_difference(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, 5 * MILLI_RUPIAH)
    await freeze(seeded, clock)
    clock.move(HOUR)
    await spend_exactly(seeded, consumer, TEN + timedelta(minutes=1), 2 * MILLI_RUPIAH)
    await freeze(seeded, clock)
    assert [(b["value"], b["window_start"]) for b in await batches(seeded)] == [(5, TEN), (2, TEN)]
    await assert_proved(seeded)


async def test_corrections_that_outweigh_usage_are_sent_as_a_negative_value(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, 5 * MILLI_RUPIAH)
    await spend_exactly(seeded, consumer, TEN + HOUR, -7 * MILLI_RUPIAH - 1)
    await freeze(seeded, clock)
    assert [b["value"] for b in await batches(seeded)] == [5, -8]
    assert await carry(seeded) == MILLI_RUPIAH - 1
    await assert_proved(seeded)


async def test_a_month_has_a_carry_of_its_own(seeded, clock, consumer):
    last_hour = datetime(2026, 10, 31, 23, tzinfo=UTC)
    await spend_exactly(seeded, consumer, last_hour + timedelta(minutes=59, seconds=59), MILLI_RUPIAH // 2)
    await spend_exactly(seeded, consumer, last_hour + HOUR, MILLI_RUPIAH // 2)
    await freeze(seeded, clock)
    assert [(b["period"], b["value"]) for b in await batches(seeded)] == [("2026-10", 0), ("2026-11", 0)]
    await assert_proved(seeded)


async def test_the_running_hour_is_left_alone(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, clock.now() - timedelta(minutes=1), MILLI_RUPIAH)
    clock.move(timedelta(minutes=2))
    assert (await freeze(seeded, clock)).entries == 0
    clock.move(timedelta(minutes=3))
    assert (await freeze(seeded, clock)).entries == 1


async def test_an_hour_with_an_open_request_waits_for_its_end(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, MILLI_RUPIAH)
    await spend_exactly(seeded, consumer, TEN + HOUR, MILLI_RUPIAH)
    await open_request(seeded, consumer, TEN + HOUR + timedelta(minutes=30))
    assert (await freeze(seeded, clock)).entries == 1
    await seeded.execute("UPDATE request_intent SET state = 'settled', closed_at = now()")
    assert (await freeze(seeded, clock)).entries == 1


async def test_an_open_request_of_somebody_else_holds_nothing_up(seeded, clock, stripe, consumer):
    budi = await pay_by_use(seeded, clock, stripe, "budi@example.com", Currency.IDR)
    await spend_exactly(seeded, consumer, TEN, MILLI_RUPIAH)
    await open_request(seeded, budi, TEN)
    assert (await freeze(seeded, clock)).entries == 1


async def test_an_account_without_a_customer_waits(seeded, clock, consumer):
    await seeded.execute("DELETE FROM stripe_customer")
    await spend_exactly(seeded, consumer, TEN, MILLI_RUPIAH)
    assert (await freeze(seeded, clock)).entries == 0
    status = await service.status(seeded)
    assert (status.entries_without_customer, status.accounts_without_customer) == (1, 1)
    assert status.oldest_unsent_at == TEN


async def test_an_hour_in_which_a_subscription_by_use_began_is_two_batches(seeded, clock, consumer):
    for minute in (5, 29, 30, 45):
        await spend_exactly(seeded, consumer, TEN + timedelta(minutes=minute), 7 * MILLI_RUPIAH // 2)
    await spend_exactly(seeded, consumer, TEN - HOUR, MILLI_RUPIAH)
    await subscription(seeded, consumer, TEN + timedelta(minutes=30), metered_item="si_use")
    await subscription(seeded, consumer, TEN - timedelta(minutes=59), metered_item=None)
    await freeze(seeded, clock)
    rows = [(row["event_at"], row["value"], row["entries"]) for row in await batches(seeded)]
    assert sorted(rows) == [
        (TEN - HOUR, 1, 1),
        (TEN + timedelta(minutes=5), 7, 2),
        (TEN + timedelta(minutes=30), 7, 2),
    ]
    assert {row["window_start"] for row in await batches(seeded)} == {TEN - HOUR, TEN}
    await spend_exactly(seeded, consumer, TEN + timedelta(minutes=29, seconds=59.9), MILLI_RUPIAH)
    await freeze(seeded, clock)
    late = (await batches(seeded))[-1]
    assert (late["event_at"], late["value"]) == (TEN + timedelta(minutes=29, seconds=59), 1)
    await assert_proved(seeded)


async def test_an_hour_is_cut_wherever_a_subscription_by_use_began_or_ended(seeded, clock, consumer):
    for minute in (5, 15, 25, 35, 45):
        await spend_exactly(seeded, consumer, TEN + timedelta(minutes=minute), minute * MILLI_RUPIAH)
    first, second = (TEN + timedelta(minutes=minute) for minute in (10, 30))
    await subscription(seeded, consumer, first, metered_item="si_1", ended_at=TEN + timedelta(minutes=20))
    await subscription(seeded, consumer, second, metered_item="si_2", ended_at=TEN + timedelta(minutes=40))
    await freeze(seeded, clock)
    rows = sorted((row["event_at"], row["value"]) for row in await batches(seeded))
    assert rows == [(TEN + timedelta(minutes=minute), minute) for minute in (5, 15, 25, 35, 45)]
    await assert_proved(seeded)


async def subscription(db, customer, began_at, *, metered_item, ended_at=None):
    await db.execute(
        "INSERT INTO stripe_subscription (subscription_id, account_id, customer_id, status, plan_id, metered_item_id,"
        " started_at, ended_at, period_start, period_end, asked_at)"
        " VALUES ($4, $1, $2, 'active', 'payg', $5, $3, $6, $3, $3, $3)",
        customer.account_id, customer.customer_id, began_at, f"sub_{began_at}", metered_item, ended_at,
    )  # fmt: skip


async def test_each_currency_has_its_unit_and_its_meter(seeded, clock, stripe, consumer):
    budi = await pay_by_use(seeded, clock, stripe, "budi@example.com", Currency.USD)
    await spend(seeded, [consumer.account_id, budi.account_id], [TEN, TEN + HOUR], entries=50)
    await freeze(seeded, clock)
    rows = await seeded.fetch("SELECT account_id, sum(value) AS units FROM stripe_batch GROUP BY 1")
    units = {row["account_id"]: row["units"] for row in rows}
    assert units[consumer.account_id] == await outbox_units(seeded, consumer)
    assert units[budi.account_id] == await outbox_units(seeded, budi)
    assert await seeded.fetchval("SELECT count(DISTINCT event_name) FROM stripe_batch") == 2
    await assert_proved(seeded)


async def test_two_workers_at_once_freeze_every_entry_once(seeded, clock, stripe):
    people = [
        await pay_by_use(seeded, clock, stripe, f"person{n}@example.com", Currency.IDR) for n in range(6)
    ]
    await spend(seeded, [one.account_id for one in people], [TEN, TEN + HOUR, TEN + 2 * HOUR], entries=40)
    frozen = await asyncio.gather(*(freeze(seeded, clock) for _ in range(4)))
    assert sum(one.entries for one in frozen) == 6 * 3 * 40
    assert await seeded.fetchval("SELECT sum(entries) FROM stripe_batch") == 6 * 3 * 40
    await assert_proved(seeded)


async def test_what_a_batch_says_cannot_be_changed(seeded, clock, consumer):
    await spend_exactly(seeded, consumer, TEN, MILLI_RUPIAH)
    await freeze(seeded, clock)
    for change in ("value = 2", "event_at = now()", "customer_id = 'cus_other'", "identifier = 'other'"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await seeded.execute(f"UPDATE stripe_batch SET {change}")
    with pytest.raises(asyncpg.RestrictViolationError):
        await seeded.execute("DELETE FROM stripe_batch")


FORGED = "SET LOCAL session_replication_role = replica; "
"""Past the guards, as whoever has the disk can go."""
WRONG = {
    "a row too many": (
        {"rows"},
        """INSERT INTO billing_outbox SELECT gen_random_uuid(), account_id, currency, occurred_at, 1, batch_id
            FROM billing_outbox WHERE occurred_at < '2026-11-01'""",
    ),
    "rows of a batch that does not exist": (
        {"rows"},
        "UPDATE billing_outbox SET batch_id = gen_random_uuid() WHERE occurred_at < '2026-11-01'",
    ),
    "a batch without rows": ({"rows"}, "DELETE FROM billing_outbox WHERE occurred_at < '2026-11-01'"),
    "a unit too few": ({"units"}, "UPDATE stripe_carry SET frozen_units = 2 WHERE period = '2026-10'"),
    "a carry of another month": ({"units"}, "UPDATE stripe_carry SET period = '2031-01' WHERE period = '2026-10'"),
    "a batch of another month": (
        {"units", "windows"},
        "UPDATE stripe_batch SET period = '2026-09' WHERE period = '2026-10'",
    ),
    "a row of another hour": (
        {"windows"},
        "UPDATE billing_outbox SET occurred_at = occurred_at + interval '1 hour' WHERE occurred_at < '2026-11-01'",
    ),
    "a row of another month": (
        {"rows", "windows"},
        "UPDATE billing_outbox SET occurred_at = occurred_at + interval '5 years' WHERE occurred_at < '2026-11-01'",
    ),
    "another value": (
        {"payloads", "units"},
        "UPDATE stripe_batch SET value = value + 1 WHERE window_start < '2026-11-01'",
    ),
}  # fmt: skip
"""What is wrong in the batches of October, in words, and what convicts it."""


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_proof_finds_what_is_wrong_in_the_month_in_which_it_is(seeded, clock, consumer, wrong):
    for month in (10, 11):
        await spend_exactly(seeded, consumer, TEN.replace(month=month), 3 * MILLI_RUPIAH + 5)
    await freeze(seeded, clock)
    await assert_proved(seeded)
    async with seeded.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(FORGED + WRONG[wrong][1])
        everywhere = await broken(connection)
        untouched = await broken(connection, month=Month("2026-11"))
        await transaction.rollback()
    assert everywhere == WRONG[wrong][0]
    assert untouched == set()


def test_every_check_of_batches_has_a_case():
    convicting = set.union(*(checks for checks, _ in WRONG.values()))
    assert convicting == {query.removeprefix("verify_") for query in CHECKS.values()}


async def broken(db, month=None):
    return {check.detail for check in await service.verify(db, month=month) if not check.ok}


async def open_request(db, customer, at):
    await db.execute(
        "INSERT INTO request_intent (request_id, account_id, key_id, model, endpoint, stream, plan_id, billable, currency,"
        " book_id, admitted_at, period, day, input_tokens, output_tokens, reserved_tokens, deadline, heartbeat_at)"
        " VALUES (gen_random_uuid(), $1, $1, 'm', 'responses', false, 'payg', true, 'idr', 'idr-1', $2, '2026-11',"
        " '2026-11-22', 1, 1, 2, $2, $2)",
        customer.account_id, at,
    )  # fmt: skip
