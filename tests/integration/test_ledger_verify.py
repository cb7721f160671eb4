"""The checks that run in production convict: each finds the one thing that is wrong in otherwise good books."""

import re

import pytest
from prometheus_client import generate_latest

from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.ids import uuid7
from gateway.jobs import gateway_jobs
from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.ledger.service import Ledger, verify
from gateway.ledger.store import STARRED_CHECKS
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
                endpoint="responses", stream=False, plan_id="payg", billable=True, currency="idr", choices=1,
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
    assert WRONG.keys() == STARRED_CHECKS.keys()


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


async def test_the_worker_runs_the_checks_and_publishes_each(books):
    [job] = [job for job in gateway_jobs(Limits()) if job.name == "verify"]
    await books.execute("UPDATE quota_gate SET in_flight = in_flight + 1")
    await job.run(books)
    lines = re.findall(
        r'nusagate_ledger_violations\{invariant="([^"]+)"\} ([0-9.]+)', generate_latest(REGISTRY).decode()
    )
    published = {invariant: float(count) for invariant, count in lines}
    assert published.keys() >= STARRED_CHECKS.keys()
    assert {name for name in STARRED_CHECKS if published[name]} == {"I6 requests in flight"}
