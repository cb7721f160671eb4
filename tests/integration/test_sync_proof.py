"""The proof of delivery: faults, kills and days of outage, and at the end Stripe's sums equal the ledger's to the unit.

``NUSAGATE_PROOF_BATCHES`` chooses how many batches (10,000 in `make crash`), ``NUSAGATE_PROOF_SEED`` which run of luck.
"""

import random
import sys
from datetime import UTC, datetime, timedelta

import pytest

from billing.reconcile.service import Reconciler
from billing.stripe.money import STRIPE_MONEY
from billing.sync import service, worker
from gateway.runtime.failpoints import EXIT_STATUS, NAMES
from gateway.units import Currency
from tests.fakes.processes import ChildProcess
from tests.plugins.billing import pay_by_use, spend
from tests.plugins.proof import SEED, hand_in, length

BATCHES = length("batches", 140)
HOURS = 14
ENTRIES = 3
EVENTS = "/v1/billing/meter_events"
FIRST_HOUR = datetime(2026, 10, 31, 18, tzinfo=UTC)
"""The hours straddle the end of a month."""
WORKER_DEADLINE_S = 600

# Three requests in ten go wrong: refused without effect, cut off before or after it, failed for good, too slow.
FAULTS = [
    {"kind": "reject", "status": 429, "share_percent": 5},
    {"kind": "reject", "status": 429, "retry_after_s": 1, "share_percent": 1},
    {"kind": "reject", "status": 500, "share_percent": 4},
    {"kind": "reject", "status": 503, "retry_after_s": 20, "share_percent": 2},
    {"kind": "commit_then_drop", "share_percent": 7},
    {"kind": "reset", "share_percent": 6},
    {"kind": "error_stored", "committed": True, "share_percent": 3},
    {"kind": "error_stored", "committed": False, "share_percent": 3},
    {"kind": "slow_body", "wait_s": 1.5, "share_percent": 2},
    {"kind": "delay", "wait_s": 1.5, "share_percent": 2},
]


class Outage:
    """A worker that is killed again and again, and a clock that it shares with Stripe."""

    def __init__(self, db, database_url, clock, sandbox, folder):
        self.db, self.database_url, self.clock, self.sandbox, self.folder = (
            db,
            database_url,
            clock,
            sandbox,
            folder,
        )
        self.dice = random.Random(SEED)
        self.kills = 0

    def wait(self, length):
        self.clock.move(length)
        self.sandbox.move_to(int(self.clock.now().timestamp()))

    def break_things(self, *, delays=True):
        rules = [
            {"path": EVENTS, "times": None, "seed": self.dice.getrandbits(30), **fault}
            for fault in FAULTS
            if delays or fault["kind"] != "delay"
        ]
        self.sandbox.faults(*rules)

    def work(self, job, failpoint=None):
        """Let a worker take one turn, and die at a failpoint if it comes by there."""
        process = ChildProcess(
            [
                sys.executable, "-m", "tests.fakes.sync_worker", job, self.database_url, self.sandbox.url,
                str(int(self.clock.now().timestamp())), str(self.dice.getrandbits(30)),
            ],
            output=self.folder / "worker.log",
            env={"NUSAGATE_FAILPOINT": failpoint} if failpoint else None,
        )  # fmt: skip
        status = process.wait(deadline_s=WORKER_DEADLINE_S)
        assert status in {0, EXIT_STATUS}, process.output
        self.kills += status == EXIT_STATUS
        return status == EXIT_STATUS


@pytest.fixture
def outage(seeded, database_url, clock, sandbox, tmp_path) -> Outage:
    return Outage(seeded, database_url, clock, sandbox, tmp_path)


def failpoints_of(job):
    return sorted(name for name in NAMES if name.startswith(f"{job}."))


@pytest.mark.slow
@pytest.mark.timeout(7_200)
async def test_after_faults_kills_and_days_stripe_has_exactly_what_the_ledger_says(
    seeded, clock, stripe, sender, sandbox, outage
):
    people = [
        await pay_by_use(seeded, clock, stripe, f"person{n}@example.com", list(Currency)[n % 2])
        for n in range(-(-BATCHES // HOURS))
    ]
    await suffer(outage, people)
    await recover(outage, seeded, clock, stripe, sender)
    assert outage.kills >= len(failpoints_of("sync"))
    differing = await differences_of(seeded, sandbox, people)
    assert differing == {}
    await assert_all_is_settled(seeded)
    hand_in(
        batches=await seeded.fetchval("SELECT count(*) FROM stripe_batch WHERE state = 'confirmed'"),
        customers=len(people),
        kills=outage.kills,
        requests=await seeded.fetchval("SELECT sum(attempts) FROM stripe_batch"),
        differing_customers=len(differing),
    )


async def suffer(outage, people):
    """Kill the worker at every named point, under faults, with usage coming in and at last more than a day of silence."""
    accounts = [person.account_id for person in people]
    points = failpoints_of("sync")
    outage.break_things()
    for name, hour in zip(points, range(HOURS), strict=False):
        first, second = (FIRST_HOUR + timedelta(hours=n) for n in (hour, HOURS - hour - 1))
        await spend(outage.db, accounts, [first], entries=ENTRIES, seed=outage.dice.getrandbits(20))
        assert outage.work("sync", name), f"the worker never came by {name}"
        outage.wait(timedelta(minutes=outage.dice.randint(3, 30)))
        await spend(outage.db, accounts, [second], entries=ENTRIES, seed=outage.dice.getrandbits(20))
        outage.work("sync", f"{name}:{outage.dice.randint(2, 40)}")
        outage.wait(timedelta(minutes=outage.dice.randint(3, 90)))
    # A delayed request lasts a second of the machine's time: none may be under way when the clock jumps over a day.
    outage.break_things(delays=False)
    outage.work("sync")
    outage.wait(timedelta(hours=25))
    outage.break_things()
    outage.work("sync")
    outage.wait(timedelta(minutes=30))
    for name in failpoints_of("reconcile"):
        outage.work("reconcile", f"{name}:{outage.dice.randint(1, 5)}")
        outage.wait(timedelta(minutes=16))


async def recover(outage, db, clock, stripe, sender):
    """With Stripe well again, everything is proved in the end, by itself."""
    outage.sandbox.faults()
    for _ in range(40):
        await worker.run(db, clock, sender, cutoff=service.closed_before(clock.now(), 300))
        outage.wait(timedelta(minutes=16))
        await Reconciler(db, clock, stripe, max_reads=1_000_000).run(everybody=True)
        if not await db.fetchval(
            "SELECT count(*) FROM stripe_batch WHERE state NOT IN ('confirmed', 'empty')"
        ):
            return
    stuck = await db.fetch("SELECT * FROM stripe_batch WHERE state NOT IN ('confirmed', 'empty')")
    findings = await db.fetch("SELECT * FROM reconcile_finding WHERE resolved_at IS NULL")
    raise AssertionError([dict(row) for row in (*stuck, *findings)])


async def differences_of(db, sandbox, people):
    """By how many units the sandbox counted more, or less, than the ledger has, for whom it did."""
    sums = sandbox.get("state")["sums"]
    ledger = await db.fetch(
        "SELECT account_id, period, currency, sum(amount_pico) AS pico FROM ledger_entry GROUP BY 1, 2, 3"
    )
    expected = {person.account_id: 0 for person in people}
    for row in ledger:
        expected[row["account_id"]] += (
            int(row["pico"]) // STRIPE_MONEY[Currency(row["currency"])].meter_unit_pico
        )
    differences = {
        person.customer_id: int(sums[person.customer_id][STRIPE_MONEY[person.currency].event_name])
        - expected[person.account_id]
        for person in people
    }
    return {customer: by for customer, by in differences.items() if by}


async def assert_all_is_settled(db):
    assert [check.invariant for check in await service.verify(db) if not check.ok] == []
    assert await db.fetchval("SELECT count(*) FROM reconcile_finding WHERE resolved_at IS NULL") == 0
    assert await db.fetchval("SELECT count(*) FROM billing_outbox WHERE batch_id IS NULL") == 0
