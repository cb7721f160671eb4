"""How long a million entries of the ledger take to Stripe: frozen into batches, and sent to the sandbox one by one.

Only measured when it is named (``--only sync``), because filling the ledger takes longer than the measurement. The
sandbox runs on this machine and takes its share of the cores; Stripe itself takes 1,000 events a second at most.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from billing.settings import StripeSettings
from billing.stripe.client import Stripe
from billing.stripe.meters import ensure_meters
from billing.sync import service, worker
from billing.sync.sender import Sender
from gateway.clock import SystemClock
from gateway.db.pool import Pool, open_pool
from gateway.runtime.settings import Limits
from gateway.units import Currency
from tests.bench.scenarios import Figure, Pace
from tests.bench.stand import BenchFailed, Stand
from tests.contract.stripe.sandbox import SandboxProcess, running_sandbox
from tests.plugins.billing import pay_by_use, spend

ACCOUNTS = 1_000
HOURS = 10
ENTRIES_AN_HOUR = 100
ENTRIES = ACCOUNTS * HOURS * ENTRIES_AN_HOUR
DATABASE_TIMEOUT_S = 300


def sync_million(stand: Stand, _: Pace) -> list[Figure]:
    """Measure one run of the worker after an hour in which nothing was carried, or ten."""
    with _all_cores(stand), running_sandbox(stand.folder) as sandbox:
        return asyncio.run(_measure(stand, sandbox))


@contextmanager
def _all_cores(stand: Stand) -> Iterator[None]:
    """Let this process and its sandbox use the gateway's core, too: the gateway has nothing to do."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, stand.cores.others | {stand.cores.subject})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _measure(stand: Stand, sandbox: SandboxProcess) -> list[Figure]:
    settings = StripeSettings(secret_key="sk_test_bench", webhook_secret="whsec_bench", api_base=sandbox.url)
    limits = Limits(database_timeout_s=DATABASE_TIMEOUT_S)
    db, stripe, clock = (
        await open_pool(stand.database_url, limits, application="bench"),
        Stripe(settings),
        SystemClock(),
    )
    try:
        await _fill(db, stripe, clock)
        began_s = time.monotonic()
        frozen = await service.freeze_due(db, clock, service.closed_before(clock.now(), 0))
        frozen_s = time.monotonic()
        report = await worker.send_due(db, clock, Sender(db, clock, stripe, settings), frozen)
        sent_s = time.monotonic()
    finally:
        await stripe.close()
        await db.close()
    if (frozen.entries, report.accepted) != (ENTRIES, frozen.batches):
        raise BenchFailed(
            f"Of {ENTRIES} entries {frozen.entries} were frozen, and not all were sent: {report}"
        )
    return [
        Figure(
            name="a million entries frozen and sent",
            value=sent_s - began_s,
            unit="s",
            goal="≤ 60",
            note=f"{ACCOUNTS} accounts, {frozen.batches} batches, all accepted",
        ),
        Figure(name="of it, freezing", value=frozen_s - began_s, unit="s"),
        Figure(name="batches sent", value=report.accepted / (sent_s - frozen_s), unit="requests/s"),
    ]


async def _fill(db: Pool, stripe: Stripe, clock: SystemClock) -> None:
    """Make a thousand paying accounts, and their usage of the last hours that are over."""
    await ensure_meters(stripe)
    people = [
        await pay_by_use(db, clock, stripe, f"payer{number}@example.com", Currency.IDR)
        for number in range(ACCOUNTS)
    ]
    last = service.closed_before(clock.now(), 0)
    for number in range(HOURS):
        hour = last - timedelta(hours=number + 1)
        await spend(db, [person.account_id for person in people], [hour], entries=ENTRIES_AN_HOUR)
