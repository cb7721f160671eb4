"""The judge of the crash tests reads the tables rightly: each of its statements finds the one thing that is wrong in good books."""

import pytest

from gateway.ids import uuid7
from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.ledger.service import Ledger
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.quota.model import ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts
from tests.fakes.checker import ALWAYS, IDLE

FORGED = "SET LOCAL session_replication_role = replica; "
"""Past the guards, as a bug of theirs would go."""
ANOTHER_ENTRY = """
    INSERT INTO ledger_entry SELECT (json_populate_record(e, json_build_object('entry_id', gen_random_uuid(), 'seq', 1))).*
    FROM ledger_entry e"""

WRONG = {
    "open requests": FORGED + "UPDATE request_intent SET state = 'open'",
    "held tokens": FORGED + "UPDATE quota_counter SET held_tokens = 1",
    "requests in flight": FORGED + "UPDATE quota_gate SET in_flight = 1",
    "used is not the ledger's sum": FORGED + "UPDATE quota_counter SET used_tokens = used_tokens + 1",
    "I3 a request has two entries": FORGED + ANOTHER_ENTRY,
    "I1 a settled request has no entry": FORGED + "DELETE FROM ledger_entry",
    "I1 a released request has an entry": FORGED + "UPDATE request_intent SET state = 'released'",
    "I3 a billable entry is not in the outbox once": FORGED + "DELETE FROM billing_outbox",
    "I6 a month's total is not the ledger's sum": FORGED + "UPDATE account_period_total SET quota_tokens = 1",
    "I12 an entry is not in the month of its admission": FORGED
    + "UPDATE ledger_entry SET period = '2020-01'",
    "I12 an entry and its intent disagree": FORGED + "UPDATE request_intent SET period = '2020-01'",
}
EVERY = {**IDLE, **ALWAYS}


@pytest.fixture
async def books(seeded, sari):
    """One billable request of Sari's, settled, and nothing open."""
    quota = PostgresQuota(seeded, Limits(), clock=None)
    meter = Meter(seeded, quota, Ledger(seeded, Limits(), health=None, spool=None), BookCache())
    hold = await meter.admit(
        ReserveRequest(
            request_id=uuid7(), account_id=sari.account_id, key_id=sari.key_id, model="nusantara-base",
            endpoint="responses", stream=False, plan_id="free", billable=True, currency="idr", choices=1,
            deadline_s=60, input_tokens=100, output_tokens=200, output_min=16,
        )
    )  # fmt: skip
    charged = Charge(counts=TokenCounts(input_text=100, output_text=200), source=UsageSource.UPSTREAM)
    await hold.settle(EndReason.COMPLETED, charged, upstream="local", kept=None, replay=None)
    await meter.close()
    return seeded


def test_every_statement_has_a_case():
    assert WRONG.keys() == EVERY.keys()


async def test_good_books_are_convicted_of_nothing(books):
    assert {what: await books.fetchval(query) for what, query in EVERY.items()} == dict.fromkeys(EVERY, 0)


@pytest.mark.parametrize("what", WRONG)
async def test_a_statement_finds_what_it_is_for(books, what):
    async with books.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(WRONG[what])
        found = await connection.fetchval(EVERY[what])
        await transaction.rollback()
    assert found >= 1
