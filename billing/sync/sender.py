"""Sends what is due: bounded, paced, one event of a customer at a time, and every outcome written down at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import groupby
from uuid import UUID

from billing.settings import StripeSettings
from billing.stripe import meters
from billing.stripe.circuit import Circuit, Pace
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeBusy, StripeError, StripeForbidden, StripeNoCustomer
from billing.sync import store
from billing.sync.model import (
    CIRCUIT_PAUSE,
    LEASE,
    Batch,
    BatchState,
    Verdict,
    give_back,
    judge,
    screen,
)
from billing.sync.service import park
from gateway.audit import service as audit
from gateway.clock import Clock
from gateway.db.pool import Pool, is_poison, retry_contention
from gateway.runtime import metrics
from gateway.runtime.batcher import Batcher
from gateway.runtime.failpoints import failpoint
from gateway.runtime.logging import get_logger

log = get_logger("sync")

CLAIM_SIZE = 128
RECORD_SIZE = 256
BUSY_PAUSE_MS = 250
BUSY_PAUSE_MAX_MS = 5_000
"""How long everybody waits after a 429; the batch that it was said to waits as long as Stripe asked."""

Progress = Callable[[Verdict], None]


class Sender:
    """Sends batches to Stripe; its circuit and its pace outlive a run."""

    def __init__(
        self,
        db: Pool,
        clock: Clock,
        stripe: Stripe,
        settings: StripeSettings,
        *,
        dice: random.Random | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._stripe = stripe
        self._timeout_s = settings.limits.stripe_timeout_s
        self._concurrency = settings.limits.stripe_concurrency
        self._dice = dice or random.SystemRandom()
        self._pace = Pace(settings.events_per_s)
        self.circuit = Circuit(CIRCUIT_PAUSE)

    async def send_due(self, progress: Progress) -> Counter[BatchState]:
        """Send everything that is due now; return how many attempts ended in which state."""
        tally: Counter[BatchState] = Counter()
        records = Batcher(
            self._write, max_batch=RECORD_SIZE, max_queue=self._concurrency, is_poison=is_poison
        )

        async def serve(batches: Sequence[Batch]) -> None:
            parked = False
            for batch in batches:
                verdict = give_back(batch, self._clock.now()) if parked else await self._attempt(batch)
                parked = parked or verdict.parks
                await records.submit(verdict)
                tally[verdict.state] += 1
                progress(verdict)

        await self._serve_accounts(serve)
        return tally

    async def _serve_accounts(self, serve: Callable[[Sequence[Batch]], Coroutine[None, None, None]]) -> None:
        """Lease page after page, and serve as many accounts at once as there may be requests."""
        running: dict[asyncio.Task[None], UUID] = {}
        async with asyncio.TaskGroup() as group:
            while not self.circuit.is_open(self._clock.now()):
                page = await self._claim(running.values())
                if not page and not running:
                    return
                for account_id, batches in _by_account(page):
                    while len(running) >= self._concurrency:
                        await _one_done(running)
                    running[group.create_task(serve(batches))] = account_id
                if not page:
                    await _one_done(running)

    async def _claim(self, busy: Collection[UUID]) -> list[Batch]:
        now = self._clock.now()
        claimed = await store.claim(self._db, now=now, lease_until=now + LEASE, busy=busy, limit=CLAIM_SIZE)
        if claimed:
            failpoint("sync.after_lease")
        return claimed

    async def _attempt(self, batch: Batch) -> Verdict:
        now = self._clock.now()
        if self.circuit.is_open(now) or (batch.lease_until - now).total_seconds() <= self._timeout_s:
            return give_back(batch, now)
        return screen(batch, now) or await self._post(batch)

    async def _post(self, batch: Batch) -> Verdict:
        await self._pace.turn()
        failpoint("sync.before_post")
        error: StripeError | None = None
        try:
            await meters.send(self._stripe, batch.event, idempotency_key=batch.idempotency_key)
        except StripeError as failure:
            error = failure
        failpoint("sync.after_post")
        self._heed(error)
        verdict = judge(batch, error, now=self._clock.now(), dice=self._dice)
        if verdict.parks:
            await self._park(batch)
        return verdict

    async def _park(self, batch: Batch) -> None:
        """Send nothing more for an account: Stripe does not know its customer."""
        customer_id, code = batch.event.customer_id, StripeNoCustomer.code
        async with self._db.acquire() as connection, connection.transaction():
            await park(connection, self._clock, batch.account_id, customer_id, reason=code)
        log.warning("account parked", account_id=str(batch.account_id), code=code)

    def _heed(self, error: StripeError | None) -> None:
        """Do what an answer means for more than its own batch."""
        metrics.stripe_requests_total.labels(error.code if error else "ok").inc()
        now = self._clock.now()
        match error:
            case StripeForbidden():
                self.circuit.trip(now)
                log.error("stripe refuses the key", code=error.code, status=error.answer.status)
            case StripeBusy():
                asked_ms = (error.answer.retry_after_s or 0) * 1_000
                self._pace.pause(min(asked_ms or BUSY_PAUSE_MS, BUSY_PAUSE_MAX_MS))
            case None:
                self.circuit.close()

    async def _write(self, verdicts: list[Verdict]) -> Sequence[None]:
        failpoint("sync.before_accept")
        await retry_contention(lambda: self._record(verdicts))
        failpoint("sync.after_accept")
        return [None] * len(verdicts)

    async def _record(self, verdicts: list[Verdict]) -> None:
        async with self._db.acquire() as connection, connection.transaction():
            for letter in await store.record(connection, verdicts, self._clock.now()):
                await audit.record_decision(
                    connection,
                    self._clock,
                    "batch:give_up",
                    account_id=letter.account_id,
                    object_id=letter.batch_id,
                    reason=letter.error,
                )


async def _one_done(running: dict[asyncio.Task[None], UUID]) -> None:
    """Wait until an account has been served, and forget it."""
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del running[task]


def _by_account(page: Sequence[Batch]) -> list[tuple[UUID, list[Batch]]]:
    ordered = sorted(page, key=lambda batch: (batch.account_id, batch.event.event_at))
    return [
        (account_id, list(batches))
        for account_id, batches in groupby(ordered, lambda batch: batch.account_id)
    ]
