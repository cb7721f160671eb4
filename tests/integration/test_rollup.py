"""Closing days: in order, once, by the database's clock, never before the last settlement, and corrections follow."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from gateway.db.migrate import migrate
from gateway.db.pool import open_pool
from gateway.db.queries import load_queries
from gateway.ids import uuid7
from gateway.jobs import gateway_jobs
from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.ledger.service import Ledger
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.quota.model import ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.rollup import store
from gateway.rollup.service import DAYS_A_TURN, MARGIN_HOURS, close_days, follow
from gateway.rollup.store import Backlog
from gateway.runtime import metrics
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts
from tests.integration.test_migrations import fresh_database
from tests.integration.test_sql import statements
from tests.plugins.days import DAY, FORGET, HOUR, close_until, day_of, last_closed, today, use, wrong_rows

PATIENT = Limits(lock_timeout_s=60, database_timeout_s=120)
NOTHING = Backlog(days=0, due=None)
HELD = 4_242
"""A lock that a test holds where something is to stand still."""


@pytest.fixture
async def pool(database_url):
    """Connections that wait for each other for as long as a busy machine takes."""
    opened = await open_pool(database_url, PATIENT, application="tests")
    yield opened
    await opened.close()


async def due_until(db):
    """The last day that the database's clock lets be closed."""
    return await db.fetchval(
        "SELECT ((clock_timestamp() - make_interval(hours => $1)) AT TIME ZONE 'UTC')::date - 1", MARGIN_HOURS
    )


async def waiting(db) -> int:
    """Wait until somebody in this database waits for an advisory lock; return the process."""
    async with asyncio.timeout(60):
        while True:
            pid = await db.fetchval(
                "SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'advisory' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if pid is not None:
                return int(pid)


def days_behind() -> int:
    """What the metric says."""
    return int(metrics.usage_days_behind._value.get())


async def daily_requests(db, day):
    return await db.fetchval("SELECT sum(requests)::bigint FROM usage_daily WHERE day = $1", day)


# ---------------------------------------------------------------- which days are closed


async def test_every_day_that_is_long_past_is_closed_and_sums_its_hours(seeded, sari, budi):
    midnight = await today(seeded)
    for days in range(1, 12):
        for hours in (0, 5, 23):
            await use(seeded, sari.account_id, midnight - days * DAY + hours * HOUR, requests=days)
        await use(seeded, budi.account_id, midnight - days * DAY + 3 * HOUR, model="tiny")
    await use(seeded, sari.account_id, midnight)
    assert await close_days(seeded) in {10, 11}
    last = await last_closed(seeded)
    assert last == await due_until(seeded)
    assert await seeded.fetchval("SELECT max(day) FROM usage_daily") == last
    day = day_of(midnight - 5 * DAY)
    rows = await seeded.fetch("SELECT * FROM usage_daily WHERE day = $1 ORDER BY requests", day)
    assert [(row["account_id"], row["model"], row["requests"]) for row in rows] == [
        (budi.account_id, "tiny", 1), (sari.account_id, "nusantara-base", 15),
    ]  # fmt: skip
    assert (rows[1]["input_tokens"], rows[1]["input_cached_tokens"], rows[1]["output_tokens"]) == (21, 6, 15)
    assert (rows[1]["output_reasoning_tokens"], rows[1]["amount_pico"]) == (3, 180)
    assert await wrong_rows(seeded) == 0
    assert await close_days(seeded) == 0


async def test_a_backlog_is_closed_in_turns_of_a_month(seeded, sari):
    midnight = await today(seeded)
    await use(seeded, sari.account_id, midnight - (DAYS_A_TURN + 40) * DAY)
    assert await close_days(seeded) == DAYS_A_TURN
    assert await last_closed(seeded) == day_of(midnight - 41 * DAY)
    assert await close_days(seeded) == DAYS_A_TURN
    assert await close_days(seeded) in {8, 9}
    assert await close_days(seeded) == 0


async def test_where_nothing_was_used_nothing_is_closed(seeded, sari):
    assert await close_days(seeded) == 0
    assert days_behind() == 0
    assert await last_closed(seeded) is None
    await use(seeded, sari.account_id, await today(seeded))
    assert await close_days(seeded) == 0


async def test_the_worker_closes_days(seeded, sari):
    [job] = [job for job in gateway_jobs(Limits()) if job.name == "close_days"]
    await use(seeded, sari.account_id, await today(seeded) - 3 * DAY)
    await job.run(seeded)
    assert await last_closed(seeded) == await due_until(seeded)


async def test_a_day_is_not_closed_while_a_request_of_it_is_open_and_then_with_it(seeded, sari):
    meter = Meter(
        seeded, PostgresQuota(seeded, Limits(), clock=None), Ledger(seeded, Limits(), health=None, spool=None), BookCache()
    )  # fmt: skip
    hold = await meter.admit(
        ReserveRequest(
            request_id=uuid7(), account_id=sari.account_id, key_id=sari.key_id, model="nusantara-base",
            endpoint="responses", stream=False, plan_id="payg", billable=True, currency="idr", choices=1,
            deadline_s=60, month_limit=None, input_tokens=100, output_tokens=200, output_min=16,
        )
    )  # fmt: skip
    midnight = await today(seeded)
    late = midnight - 5 * DAY
    await seeded.execute("UPDATE request_intent SET admitted_at = $1", late + 23 * HOUR)
    await use(seeded, sari.account_id, late - 2 * DAY)
    assert await close_days(seeded) == 2
    assert await last_closed(seeded) == day_of(late - DAY)
    assert await close_days(seeded) == 0
    assert days_behind() == (await due_until(seeded) - day_of(late)).days + 1

    charged = Charge(counts=TokenCounts(input_text=100, output_text=200), source=UsageSource.UPSTREAM)
    await hold.settle(EndReason.COMPLETED, charged, upstream="local", kept=None, replay=None)
    await meter.close()
    assert await close_days(seeded) > 0
    assert days_behind() == 0
    assert await daily_requests(seeded, day_of(late)) == 1
    assert await wrong_rows(seeded) == 0


async def test_a_day_is_due_when_it_has_been_over_for_the_margin(seeded, sari):
    midnight = await today(seeded)
    now = await seeded.fetchval("SELECT clock_timestamp()")
    await use(seeded, sari.account_id, midnight - 9 * DAY)
    await close_until(seeded, day_of(midnight - 2 * DAY))
    async with seeded.acquire() as connection:
        assert await store.backlog(connection, margin_hours=0) == Backlog(days=1, due=day_of(midnight - DAY))
        assert await store.backlog(connection, margin_hours=now.hour + 2) == NOTHING
        await close_until(connection, day_of(midnight - DAY))
        assert await store.backlog(connection, margin_hours=0) == NOTHING


def test_the_margin_is_hours_and_less_than_a_day():
    """A day is closed the day after it at the latest, and long after the last admission of it is recorded."""
    assert timedelta(hours=1) < timedelta(hours=MARGIN_HOURS) < DAY


# ---------------------------------------------------------------- two at once, and dying


async def test_two_closers_at_once_close_each_day_once(pool, seeded, sari):
    midnight = await today(seeded)
    for days in range(2, 12):
        await use(seeded, sari.account_id, midnight - days * DAY, requests=3)
    closed = await asyncio.gather(*(close_days(pool) for _ in range(4)))
    assert sum(closed) in {10, 11}
    assert await last_closed(seeded) == await due_until(seeded)
    assert await seeded.fetchval("SELECT sum(requests) FROM usage_daily") == 30
    assert await wrong_rows(seeded) == 0


async def test_a_closer_that_dies_between_summing_and_the_watermark_leaves_nothing(pool, seeded, sari):
    await use(seeded, sari.account_id, await today(seeded) - 3 * DAY)
    await seeded.execute(
        f"CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN PERFORM pg_advisory_xact_lock({HELD}); RETURN NEW; END'"
    )
    await seeded.execute(
        "CREATE TRIGGER stand_still BEFORE INSERT ON usage_closed FOR EACH ROW EXECUTE FUNCTION stand_still()"
    )
    try:
        async with seeded.acquire() as holder, holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock($1)", HELD)
            closing = asyncio.create_task(close_days(pool))
            await holder.execute("SELECT pg_terminate_backend($1)", await waiting(holder))
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await closing
    finally:
        await seeded.execute("DROP FUNCTION stand_still CASCADE")
    assert await seeded.fetchval("SELECT count(*) FROM usage_daily") == 0
    assert await last_closed(seeded) is None
    assert await close_days(pool) > 0
    assert await wrong_rows(seeded) == 0
    assert await seeded.fetchval("SELECT count(*) FROM usage_daily") == 1


# ---------------------------------------------------------------- who else writes hours


def test_whoever_writes_hours_is_known():
    """Each but settling is shown below, or beside its own tests, to keep the rule."""
    writers = {
        (room, name) for room, name in statements() if "INSERT INTO usage_hourly" in load_queries(room)[name]
    }
    assert writers == {
        ("gateway.ledger", "settle"),
        ("billing.adjustments", "write"),
        ("billing.books", "correct"),
        ("billing.sync", "write_off"),
    }


async def test_hours_written_before_a_day_is_closed_are_in_it(pool, seeded, sari):
    hour = await today(seeded) - 3 * DAY
    await use(seeded, sari.account_id, hour)
    async with seeded.acquire() as writer, writer.transaction():
        await use(writer, sari.account_id, hour, requests=4)
        await follow(writer, [sari.account_id], hour)
        closing = asyncio.create_task(close_days(pool))
        await waiting(seeded)
        assert await last_closed(seeded) is None
    assert await closing > 0
    assert await daily_requests(seeded, day_of(hour)) == 5
    assert await wrong_rows(seeded) == 0


async def test_hours_written_while_their_day_is_closed_are_in_it(pool, seeded, sari, budi):
    hour = await today(seeded) - 3 * DAY
    for person in (sari, budi):
        await use(seeded, person.account_id, hour)
    async with seeded.acquire() as writer, writer.transaction():
        await use(writer, sari.account_id, hour + HOUR, requests=4)
        assert await close_days(pool) > 0
        assert await daily_requests(seeded, day_of(hour)) == 2
        await follow(writer, [sari.account_id], hour)
    assert await daily_requests(seeded, day_of(hour)) == 6
    assert await wrong_rows(seeded) == 0


async def test_a_writer_that_fails_leaves_the_closed_day_as_it_was(seeded, sari):
    hour = await today(seeded) - 3 * DAY
    await use(seeded, sari.account_id, hour)
    await close_days(seeded)
    async with seeded.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await use(writer, sari.account_id, hour, requests=4)
        await follow(writer, [sari.account_id], hour)
        await transaction.rollback()
    assert await daily_requests(seeded, day_of(hour)) == 1
    assert await wrong_rows(seeded) == 0


async def test_what_an_older_version_wrote_into_a_closed_day_is_found_and_summed_again(seeded, sari):
    """An older version does not know the rule; without the watermark nothing reads days until all are summed again."""
    hour = await today(seeded) - 3 * DAY
    await use(seeded, sari.account_id, hour)
    await close_days(seeded)
    await use(seeded, sari.account_id, hour, requests=4)
    assert await wrong_rows(seeded) == 1
    await seeded.execute(FORGET)
    assert await wrong_rows(seeded) == 0
    assert await close_days(seeded) > 0
    assert await daily_requests(seeded, day_of(hour)) == 5
    assert await wrong_rows(seeded) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE usage_daily SET {column} = {column} + 1 WHERE day = (SELECT max(day) FROM usage_daily)",
        "UPDATE usage_hourly SET {column} = {column} + 1 WHERE hour = (SELECT min(hour) FROM usage_hourly)",
    ],
)
@pytest.mark.parametrize(
    "column",
    [
        "requests",
        "input_tokens",
        "input_cached_tokens",
        "output_tokens",
        "output_reasoning_tokens",
        "amount_pico",
    ],
)
async def test_the_check_finds_a_difference_in_any_column_of_a_closed_day(seeded, sari, wrong, column):
    midnight = await today(seeded)
    for days in range(1, 6):
        await use(seeded, sari.account_id, midnight - days * DAY)
    await close_until(seeded, day_of(midnight - 2 * DAY))
    assert await wrong_rows(seeded) == 0
    await seeded.execute(wrong.format(column=column))
    assert await wrong_rows(seeded) == 1


async def test_the_check_finds_rows_that_are_too_many_or_missing_in_closed_days_alone(seeded, sari):
    midnight = await today(seeded)
    for days in range(1, 6):
        await use(seeded, sari.account_id, midnight - days * DAY)
    await close_until(seeded, day_of(midnight - 2 * DAY))
    await use(seeded, sari.account_id, midnight - DAY, requests=9)
    assert await wrong_rows(seeded) == 0
    await seeded.execute(
        "UPDATE usage_daily SET model = 'ghost' WHERE day = (SELECT min(day) FROM usage_daily)"
    )
    assert await wrong_rows(seeded) == 2
    await seeded.execute("DELETE FROM usage_daily WHERE model = 'ghost'")
    assert await wrong_rows(seeded) == 1


# ---------------------------------------------------------------- the migration


async def test_a_database_with_a_year_of_hours_is_migrated_and_caught_up(postgres_url):
    url = await fresh_database(postgres_url, "a_year_of_hours")
    connection = await asyncpg.connect(url)
    await migrate(connection)
    # As it was before: the older version's database, and a year of its hours.
    await connection.execute("DROP FUNCTION usage_between; DROP TABLE usage_daily, usage_closed")
    await connection.execute("DELETE FROM schema_migration WHERE name = '0009_pre_usage_daily.sql'")
    await connection.execute(
        "INSERT INTO plan VALUES ('free', 'Free', 'free', NULL, NULL, NULL, NULL, NULL, 'drain', 1)"
    )
    accounts = [UUID(int=number) for number in (1, 2, 3)]
    await connection.execute(
        "INSERT INTO account (account_id, email, plan_id, currency, created_at) "
        "SELECT a, a || '@example.com', 'free', 'idr', now() FROM unnest($1::uuid[]) a",
        accounts,
    )
    await connection.execute(
        """
        INSERT INTO usage_hourly
        SELECT a, h, a, m, 'completed', 'idr', 1, extract(hour FROM h)::bigint, 0, 2, 0, 3
        FROM unnest($1::uuid[]) a, unnest(ARRAY['tiny', 'big']) m,
            generate_series(date_trunc('day', now(), 'UTC') - interval '364 days', now(), interval '5 hours') h
        """,
        accounts,
    )
    assert await migrate(connection) == ["0009_pre_usage_daily.sql"]
    pool = await open_pool(url, PATIENT, application="tests")
    turns = 0
    while await close_days(pool):
        turns += 1
    assert turns == 12
    assert await last_closed(pool) == await due_until(pool)
    assert await wrong_rows(pool) == 0
    assert await pool.fetchval("SELECT count(*) FROM usage_daily") in {6 * 363, 6 * 364}
    await pool.close()
    await connection.close()
