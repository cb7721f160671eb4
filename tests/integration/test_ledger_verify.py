"""The checks that run in production convict: each finds the one thing that is wrong in otherwise good books."""

import re

import pytest
from prometheus_client import generate_latest

from billing.adjustments import service as adjustments
from billing.adjustments.model import Adjustment
from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.audit import service as audit
from gateway.audit.model import Source
from gateway.clock import Month, SystemClock, month_of
from gateway.ids import uuid7
from gateway.jobs import gateway_jobs
from gateway.ledger.model import Charge, EndReason, UsageSource, divide_time
from gateway.ledger.service import LEDGER, Ledger, verify
from gateway.ledger.store import WHOLE_CHECKS, months
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.quota.model import ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.metrics import REGISTRY
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts

USED, LIMIT = 300, 1_000
FORGED = "SET LOCAL session_replication_role = replica; "
"""Past the guards, as whoever has the disk can go."""

WRONG = {
    "I1 one entry for each settled request": FORGED + "DELETE FROM ledger_entry",
    "I3 no request has two entries": FORGED + """
        INSERT INTO ledger_entry SELECT (json_populate_record(e, json_build_object('entry_id', gen_random_uuid(),
            'seq', 1))).* FROM ledger_entry e""",
    "I3 outbox equals billable entries": "DELETE FROM billing_outbox",
    "I5 no account is above its limit": "UPDATE quota_counter SET used_tokens = 1001",
    "I6 used equals the ledger": "UPDATE quota_counter SET used_tokens = used_tokens + 1",
    "I6 held equals open requests": "UPDATE quota_counter SET held_tokens = held_tokens + 1",
    "I6 requests in flight": "UPDATE quota_gate SET in_flight = in_flight + 1",
    "I6 period totals equal the ledger": "UPDATE account_period_total SET quota_tokens = quota_tokens + 1",
    "I6 hourly usage equals the ledger": "UPDATE usage_hourly SET amount_pico = amount_pico + 1",
    "I6 closed days equal their hours": "INSERT INTO usage_closed (last_day) VALUES ('2100-01-01')",
    "I12 period is the month of admission": FORGED + "UPDATE ledger_entry SET period = '2020-01'",
    "I13 the ledger is append-only": "ALTER TABLE ledger_entry DISABLE TRIGGER ledger_entry_append_only",
    "amount is tokens times rate": FORGED + "UPDATE ledger_entry SET amount_pico = amount_pico + 1",
    "every month has its partition": FORGED + """
        INSERT INTO ledger_entry SELECT (json_populate_record(e, json_build_object('entry_id', gen_random_uuid(),
            'request_id', gen_random_uuid(), 'occurred_at', '1999-12-31T00:00:00Z', 'period', '1999-12'))).*
        FROM ledger_entry e""",
}  # fmt: skip


@pytest.fixture
async def books(seeded, sari):
    """One request of Sari's, settled, and one open."""
    await accounts.set_limits(seeded, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: LIMIT})
    meter = Meter(
        seeded,
        PostgresQuota(seeded, Limits(), clock=None),
        Ledger(seeded, Limits(), health=None, spool=None),
        BookCache(),
    )
    for settled in (True, False):
        hold = await meter.admit(
            ReserveRequest(
                request_id=uuid7(), account_id=sari.account_id, key_id=sari.key_id, model="nusantara-base",
                endpoint="responses", stream=False, plan_id="free", billable=True, currency="idr", choices=1,
                deadline_s=60, month_limit=LIMIT, input_tokens=100, output_tokens=200, output_min=16,
            )
        )  # fmt: skip
        if settled:
            charged = Charge(counts=TokenCounts(input_text=100, output_text=200), source=UsageSource.UPSTREAM)
            await hold.settle(EndReason.COMPLETED, charged, upstream="local", kept=None, replay=None)
    await meter.close()
    return seeded


async def broken(db) -> set[str]:
    return {check.invariant for check in await verify(db) if not check.ok}


def test_every_check_has_a_case():
    assert WRONG.keys() == LEDGER.queries.keys()


async def test_good_books_are_convicted_of_nothing(books):
    assert await broken(books) == set()


@pytest.mark.parametrize("invariant", WRONG)
async def test_a_check_finds_what_breaks_its_invariant(books, invariant):
    async with books.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(WRONG[invariant])
        found = await broken(connection)
        await transaction.rollback()
    assert invariant in found


async def test_a_limit_that_was_lowered_and_let_nobody_in_since_is_not_broken(books, sari):
    await accounts.set_limits(books, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: USED})
    await books.execute("UPDATE request_intent SET admitted_at = admitted_at - interval '11 minutes'")
    assert "I5 no account is above its limit" not in await broken(books)


OF_AN_OLD_MONTH = {
    "a usage entry twice, in two months": (
        "I3 no request has two entries",
        """INSERT INTO ledger_entry SELECT (json_populate_record(e, json_build_object('entry_id', gen_random_uuid(),
            'occurred_at', '2026-03-15T12:00:00Z', 'period', '2026-03'))).* FROM ledger_entry e
            WHERE kind = 'usage' AND occurred_at = (SELECT max(occurred_at) FROM ledger_entry)""",
    ),
    "a counter of a month": ("I6 used equals the ledger", "UPDATE quota_counter SET used_tokens = 7 WHERE period = '2026-03'"),
    "a counter of a day": ("I6 used equals the ledger", "UPDATE quota_counter SET used_tokens = 7 WHERE period = '2026-03-15'"),
    "a counter of a month without entries": (
        "I6 used equals the ledger",
        "UPDATE quota_counter SET period = '2019-07' WHERE period = '2026-03'",
    ),
    "a total": ("I6 period totals equal the ledger", "UPDATE account_period_total SET amount_pico = 0 WHERE period = '2026-03'"),
    "a total of a month without entries": (
        "I6 period totals equal the ledger",
        "INSERT INTO account_period_total SELECT account_id, '2031-01', currency, 1, 1, 1, 2, 1, 1 FROM account",
    ),
    "an hour": ("I6 hourly usage equals the ledger", "UPDATE usage_hourly SET input_tokens = 0 WHERE hour < '2026-04-01T00:00:00Z'"),
    "an hour of another month, with the right sum": (
        "I6 hourly usage equals the ledger",
        "UPDATE usage_hourly SET hour = '2026-04-02T00:00:00Z' WHERE hour < '2026-04-01T00:00:00Z'",
    ),
    "an hour of a month without entries": (
        "I6 hourly usage equals the ledger",
        "UPDATE usage_hourly SET hour = '1996-01-01T00:00:00Z' WHERE hour < '2026-04-01T00:00:00Z'",
    ),
    "a closed day that lacks its hours": (
        "I6 closed days equal their hours",
        "INSERT INTO usage_closed (last_day) VALUES ('2026-03-15')",
    ),
    "a closed day that has more than its hours": (
        "I6 closed days equal their hours",
        """INSERT INTO usage_daily SELECT account_id, '2026-03-14', key_id, model, end_reason, currency, 1, 1, 0, 1, 0, 1
            FROM usage_hourly LIMIT 1; INSERT INTO usage_closed (last_day) VALUES ('2026-03-14')""",
    ),
    "an entry that says another month": (
        "I12 period is the month of admission",
        "UPDATE ledger_entry SET period = '2026-05' WHERE period = '2026-03'",
    ),
    "an amount": ("amount is tokens times rate", "UPDATE ledger_entry SET amount_pico = amount_pico + 1 WHERE period = '2026-03'"),
    "a row for Stripe": ("I3 outbox equals billable entries", "UPDATE billing_outbox SET amount_pico = 1 WHERE occurred_at < '2026-04-01'"),
    "a request without its entry": (
        "I1 one entry for each settled request",
        "UPDATE request_intent SET admitted_at = admitted_at + interval '1 second' WHERE admitted_at < '2026-04-01T00:00:00Z'",
    ),
}  # fmt: skip
"""What is wrong in March 2026, in words, and what convicts it."""

IN_MARCH = (
    "json_build_object('occurred_at', '2026-03-15T12:00:00Z', 'admitted_at', '2026-03-15T12:00:00Z', "
    "'period', '2026-03', 'day', '2026-03-15', 'hour', '2026-03-15T12:00:00Z', "
    "'request_id', '019cf151-1800-7000-8000-000000000000', 'entry_id', '019cf151-1800-7000-8000-000000000001')"
)
SETTLED = {
    "request_intent": "state = 'settled'",
    "ledger_entry": "true",
    "account_period_total": "true",
    "usage_hourly": "true",
    "billing_outbox": "true",
}
COPIED_TO_MARCH = [
    f"INSERT INTO {table} SELECT (json_populate_record(t, {IN_MARCH})).* FROM {table} t WHERE {which}"
    for table, which in SETTLED.items()
] + [
    """INSERT INTO quota_counter SELECT account_id, subject_id, p, used_tokens, 0 FROM quota_counter,
        (VALUES (7, '2026-03'), (10, '2026-03-15')) AS v(long, p) WHERE long = length(period)"""
]  # fmt: skip
"""What is settled, again in March 2026, in a request of its own."""


@pytest.fixture
async def old_books(books):
    """The same books, with a settled request in a month of its own partition too; there is none for a month between."""
    await books.execute("SELECT ensure_ledger_partitions('2026-03-01T00:00:00Z', 1)")
    async with books.acquire() as connection, connection.transaction():
        for statement in COPIED_TO_MARCH:
            await connection.execute(statement)
    yield books
    await books.execute("DROP TABLE ledger_entry_2026_03")


async def test_good_books_of_two_months_are_convicted_of_nothing(old_books):
    assert await broken(old_books) == set()


@pytest.mark.parametrize("wrong", OF_AN_OLD_MONTH)
async def test_what_is_wrong_in_an_old_month_is_found(old_books, wrong):
    invariant, statement = OF_AN_OLD_MONTH[wrong]
    async with old_books.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(FORGED + statement)
        found = await broken(connection)
        await transaction.rollback()
    assert invariant in found


async def test_one_month_is_checked_alone(old_books):
    await old_books.execute(OF_AN_OLD_MONTH["a total"][1])
    [wrong] = [check for check in await verify(old_books, month=Month("2026-03")) if not check.ok]
    assert (wrong.invariant, wrong.violations) == ("I6 period totals equal the ledger", 1)
    assert all(check.ok for check in await verify(old_books, month=month_of(SystemClock().now())))


async def test_every_statement_is_told_before_it_runs(old_books):
    said = []
    await verify(old_books, begin=said.append)
    assert said[0] == f"1 of {len(said)}, {next(iter(WHOLE_CHECKS))}"
    assert any(text.endswith("2026-03: amount is tokens times rate") for text in said)


async def test_the_worker_comes_to_an_old_month_by_turns_and_does_not_forget_what_it_found(old_books):
    [job] = [job for job in gateway_jobs(Limits()) if job.name == "verify"]
    await old_books.execute(OF_AN_OLD_MONTH["a total"][1])
    turns = len(divide_time(await months(old_books))) - 1
    published_after = []
    for _ in range(turns):
        await job.run(old_books)
        published_after.append(published()["I6 period totals equal the ledger"])
    assert published_after == sorted(published_after)
    assert published_after[-1] == 1


@pytest.mark.parametrize(
    ("cut", "names"),
    [
        ([], ["all time"]),
        (["2026-03"], ["before 2026-03", "2026-03", "from 2026-04"]),
        (["2026-12", "2026-03", "2027-01"],
         ["before 2026-03", "2026-03", "2026-04 to 2026-12", "2026-12", "2027-01", "from 2027-02"]),
    ],
)  # fmt: skip
def test_all_of_time_is_divided_without_a_gap(cut, names):
    spans = divide_time(cut)
    assert [str(span) for span in spans] == names
    assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]
    assert (spans[0].start, spans[-1].end) == (None, None)


def published() -> dict[str, float]:
    lines = re.findall(
        r'nusagate_ledger_violations\{invariant="([^"]+)"\} ([0-9.]+)', generate_latest(REGISTRY).decode()
    )
    return {invariant: float(count) for invariant, count in lines}


async def lower_below_what_is_used(db, clock, account_id, *, plan_id=None, limit=None):
    """Lower a month's limit as a command does it."""
    async with db.acquire() as connection, connection.transaction():
        if plan_id is not None:
            await accounts.set_plan(connection, account_id, plan_id)
            await accounts.set_limits(
                connection, account_id, overrides={}, removed=[LimitName.MONTHLY_TOKENS]
            )
        else:
            await accounts.set_limits(connection, account_id, overrides={LimitName.MONTHLY_TOKENS: limit})
            await audit.record(
                connection, clock, "account:set_limits", actor="cli", source=Source.CLI, account_id=account_id
            )


async def test_a_limit_that_was_lowered_below_what_is_used_is_not_broken_by_what_was_let_in_before(
    books, sari
):
    assert await broken(books) == set()
    await lower_below_what_is_used(books, SystemClock(), sari.account_id, limit=USED - 1)
    assert await broken(books) == set()


async def test_a_request_that_was_let_in_long_after_the_limit_was_lowered_breaks_it(books, sari):
    await lower_below_what_is_used(books, SystemClock(), sari.account_id, limit=USED - 1)
    await books.execute(
        "UPDATE request_intent SET admitted_at = admitted_at + interval '2 minutes' WHERE state = 'open'"
    )
    assert "I5 no account is above its limit" in await broken(books)


async def test_what_was_let_in_under_another_plan_breaks_no_limit_of_this_one(books, sari):
    await books.execute("UPDATE plan SET monthly_tokens = $1 WHERE plan_id = 'payg'", USED - 1)
    await lower_below_what_is_used(books, SystemClock(), sari.account_id, plan_id="payg")
    assert await broken(books) == set()
    await books.execute("UPDATE request_intent SET plan_id = 'payg' WHERE state = 'open'")
    assert await broken(books) == {"I5 no account is above its limit"}


async def test_what_an_operator_adds_breaks_no_limit(books, sari):
    async with books.acquire() as connection, connection.transaction():
        await adjustments.adjust(
            connection,
            SystemClock(),
            sari.account_id,
            Adjustment(entry_id=uuid7(), amount_pico=0, tokens=LIMIT, reason="sorry", actor="cli:dewi"),
            apply=True,
        )
    assert await broken(books) == set()


async def test_the_worker_runs_the_checks_and_publishes_each(books):
    [job] = [job for job in gateway_jobs(Limits()) if job.name == "verify"]
    await books.execute("UPDATE quota_gate SET in_flight = in_flight + 1")
    await job.run(books)
    found = published()
    assert found.keys() >= LEDGER.queries.keys()
    assert {name for name in LEDGER.queries if found[name]} == {"I6 requests in flight"}
