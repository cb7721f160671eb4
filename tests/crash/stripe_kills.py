"""F1 on the way to Stripe: the worker dies at every named point between the ledger and the proof of delivery.

What Stripe has counted at the end must be what the ledger says, to the unit, whatever shape the answers had.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg

from billing.settings import StripeLimits, StripeSettings
from billing.stripe.client import Stripe
from billing.stripe.meters import ensure_meters
from billing.stripe.money import STRIPE_MONEY
from gateway.runtime.failpoints import EXIT_STATUS
from gateway.units import Currency
from tests.contract.stripe.sandbox import SandboxProcess, running_sandbox
from tests.crash.client import Connection
from tests.crash.load import Load
from tests.crash.points import STRIPE
from tests.crash.scenario import Scenario, Trial

HOUR_S = 3_600
LATER_S = 1_000
"""More than the quiet that a comparison waits for, and than the time after which a difference counts."""
TURN_MAX_S = 60
TURNS_TO_PROOF = 8
MONEY = STRIPE_MONEY[Currency.IDR]
Turn: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Lets a worker take one turn of a job, with a failpoint or none; returns whether it died there."""


async def die_on_the_way_to_stripe(trial: Trial) -> None:
    """For every point and shape: serve, let the worker die there, and let the next one go on."""
    with running_sandbox(trial.stand.folder) as sandbox:
        clock = _Clock(sandbox)
        async with _customers(trial, sandbox) as customers:
            turn = _turns(trial, sandbox, clock)
            points = STRIPE if trial.full else dict(trial.rng.sample(sorted(STRIPE.items()), 1))
            for point, shapes in points.items():
                for shape in shapes:
                    await _serve(trial, shape)
                    died = await _die(turn, clock, point)
                    trial.expect(died, f"{point} was not reached for {shape}")
                    trial.count("points", int(died))
                    trial.interrupted += died
            await _prove(trial, turn, clock)
            await _compare(trial, sandbox, customers)


class _Clock:
    """The time that workers and Stripe share, hours ahead of the requests, so that their hour is over."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.unix_s = int(time.time()) + 2 * HOUR_S
        self._sandbox = sandbox
        sandbox.reset(now=self.unix_s)

    def move(self) -> None:
        """Let a quarter of an hour go by."""
        self.unix_s += LATER_S
        self._sandbox.move_to(self.unix_s)


@contextlib.asynccontextmanager
async def _customers(trial: Trial, sandbox: SandboxProcess) -> AsyncIterator[dict[str, str]]:
    """Make every account of the trial a customer at Stripe, where our meters exist."""
    settings = StripeSettings(
        secret_key="sk_test_crash",
        webhook_secret="whsec_crash",
        api_base=sandbox.url,
        limits=StripeLimits(stripe_timeout_s=5),
    )
    stripe, customers = Stripe(settings), {}
    connection = await asyncpg.connect(trial.stand.database_url)
    try:
        await ensure_meters(stripe)
        for account in trial.traffic.accounts:
            made = await stripe.write(
                lambda sdk, options: sdk.v1.customers.create_async({"name": "crash"}, options),
                idempotency_key=f"customer:{account.account_id}",
            )
            customers[account.account_id] = made.id
            await connection.execute(
                "INSERT INTO stripe_customer (account_id, customer_id, created_at, changed_at) "
                "VALUES ($1, $2, now(), now())",
                account.account_id,
                made.id,
            )
        yield customers
    finally:
        await connection.close()
        await stripe.close()


def _turns(trial: Trial, sandbox: SandboxProcess, clock: _Clock) -> Turn:
    async def turn(job: str, failpoint: str) -> bool:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fakes.sync_worker", job, trial.stand.database_url, sandbox.url,
            str(clock.unix_s), str(trial.rng.getrandbits(30)),
            env={**os.environ, "NUSAGATE_FAILPOINT": failpoint},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(TURN_MAX_S):
            said, _ = await worker.communicate()
        ended_well = worker.returncode in (0, EXIT_STATUS)
        trial.expect(ended_well, f"a worker ended with {worker.returncode}: {said[-300:].decode()}")
        return worker.returncode == EXIT_STATUS

    return turn


async def _serve(trial: Trial, shape: tuple[str, bool]) -> None:
    connection = Connection(trial.gateway.port)
    record = await trial.traffic.ask(connection, shape)
    await connection.close()
    trial.expect(record.complete, f"an answer before the worker's turn was {record.outcome}")


async def _die(turn: Turn, clock: _Clock, point: str) -> bool:
    """Come by a point and die there, and let the next worker find what is left; a comparison needs something sent."""
    job = point.partition(".")[0]
    if job == "reconcile":
        await turn("sync", "")
        clock.move()
    died = await turn(job, point)
    clock.move()
    await turn(job, "")
    clock.move()
    return died


async def _prove(trial: Trial, turn: Turn, clock: _Clock) -> None:
    """With nobody dying, everything is proved to have arrived, by itself."""
    connection = await asyncpg.connect(trial.stand.database_url)
    try:
        for _ in range(TURNS_TO_PROOF):
            await turn("sync", "")
            clock.move()
            await turn("reconcile", "")
            clock.move()
            open_ones = await connection.fetchval(
                "SELECT (SELECT count(*) FROM stripe_batch WHERE state NOT IN ('confirmed', 'empty'))"
                " + (SELECT count(*) FROM billing_outbox WHERE batch_id IS NULL)"
            )
            if not open_ones:
                return
        trial.expect(False, f"{open_ones} batches or entries were not proved in {TURNS_TO_PROOF} turns")
    finally:
        await connection.close()


async def _compare(trial: Trial, sandbox: SandboxProcess, customers: dict[str, str]) -> None:
    """Stripe has counted what the ledger says, for every customer."""
    connection = await asyncpg.connect(trial.stand.database_url)
    rows = await connection.fetch(
        "SELECT account_id, sum(amount_pico) AS pico FROM ledger_entry GROUP BY account_id, period"
    )
    await connection.close()
    ledger = dict.fromkeys(customers, 0)
    for row in rows:
        ledger[str(row["account_id"])] += int(row["pico"]) // MONEY.meter_unit_pico
    for account_id, customer_id in customers.items():
        counted = int(sandbox.sum_of(customer_id, MONEY.event_name) or 0)
        trial.figure("units at stripe", counted)
        trial.expect(
            counted == ledger[account_id],
            f"{account_id}: Stripe has {counted} units, the ledger {ledger[account_id]}",
        )


SCENARIOS = (
    Scenario(
        name="F1-stripe",
        says="a worker that dies anywhere on the way to Stripe: Stripe has what the ledger says, to the unit",
        strike=die_on_the_way_to_stripe,
        load=Load(clients=0, output=(40, 60), pace_ms=(0, 1)),
        accounts=(0, 1),
        own_stand=True,
        points=tuple(STRIPE),
        strike_full_s=900,
        full=1,
    ),
)
