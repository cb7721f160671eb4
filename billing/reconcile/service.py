"""Comparing Stripe's own sums with what we sent: this, and not a 2xx, is what proves that usage arrived.

Reads of Stripe are rationed, so a run has a budget. First come customers with batches whose fate is unknown, then a
rotating sample of everybody else. What is resolved here are batches; the ledger is never touched.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from billing.reconcile import store
from billing.reconcile.model import (
    HOUR,
    SEEN_APART,
    Books,
    Doubtful,
    Explanation,
    Kind,
    Place,
    Source,
    explain,
    ranges,
)
from billing.reconcile.store import Compared
from billing.stripe import invoices, meters
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeMissing
from billing.stripe.invoices import MeteredLine
from billing.sync import store as batches
from billing.sync.model import NEVER_SENT_TOO_OLD, OLDEST_EVENT, BatchState
from gateway.clock import Clock
from gateway.db.pool import Db, Pool
from gateway.runtime import metrics
from gateway.runtime.failpoints import failpoint
from gateway.runtime.logging import get_logger

log = get_logger("reconcile")

ACTOR = "reconcile"
SAMPLE_DAYS = 20
"""One part in twenty of all accounts a day."""
SAMPLE_AGAIN = timedelta(days=1)
CUSTOMERS_MAX = 10_000
DRAFT_PAGES = 5


class ReconcileReport(msgspec.Struct, kw_only=True):
    """What one run compared and resolved, and how many reads of Stripe it took."""

    reads: int = 0
    places: int = 0
    """Hours and invoice lines that were compared."""
    equal: int = 0
    differences: int = 0
    unsettled: int = 0
    """Places that nothing can be said about yet: something is on its way, or was until a moment ago."""
    found: int = 0
    """Unproven batches that Stripe has."""
    sent_again: int = 0
    """Unproven batches that Stripe does not have; they go out again under a new identifier."""
    unknown_customers: int = 0


class Reconciler:
    """Compares within a budget of reads."""

    def __init__(self, db: Pool, clock: Clock, stripe: Stripe, *, max_reads: int) -> None:
        self._db = db
        self._clock = clock
        self._stripe = stripe
        self._max_reads = max_reads
        self.report = ReconcileReport()

    async def run(self, *, everybody: bool) -> ReconcileReport:
        """Compare who is suspicious and whose turn it is, or everybody with something to prove."""
        meter_ids = await meters.find_meters(self._stripe)
        self.report.reads += 1
        await self._drafts()
        for compared in await self._customers(everybody=everybody):
            meter_id = meter_ids.get(compared.currency)
            if meter_id is not None and not await self._customer(compared, meter_id):
                break
        return self.report

    async def _customers(self, *, everybody: bool) -> list[Compared]:
        now = self._clock.now()
        found = await store.suspicious(self._db, CUSTOMERS_MAX)
        turn = await store.sample(
            self._db,
            day=now.toordinal(),
            days=1 if everybody else SAMPLE_DAYS,
            not_since=now - SAMPLE_AGAIN,
            limit=CUSTOMERS_MAX,
        )
        return list(dict.fromkeys([*found, *turn]))

    async def _customer(self, compared: Compared, meter_id: str) -> bool:
        """Compare one customer, range by range; ``False`` when the budget of reads is used up."""
        for start, end in ranges(await store.open_hours(self._db, compared)):
            if self.report.reads >= self._max_reads:
                return False
            self.report.reads += 1
            try:
                sums = await meters.hourly_sums(self._stripe, meter_id, compared.customer_id, start, end)
            except StripeMissing:
                self.report.unknown_customers += 1
                log.warning("customer cannot be compared", account_id=str(compared.account_id))
                break
            await self._hours(compared, sums, start, end)
        await store.note_turn(self._db, compared.account_id, self._clock.now())
        return True

    async def _hours(
        self, compared: Compared, sums: Mapping[datetime, int], start: datetime, end: datetime
    ) -> None:
        for hour in await store.open_hours(self._db, compared):
            if start <= hour < end:
                place = Place(
                    account_id=compared.account_id,
                    currency=compared.currency,
                    customer_id=compared.customer_id,
                    source=Source.SUMMARY,
                    start=hour,
                    end=hour + HOUR,
                )
                await compare(self._db, self._clock, place, sums.get(hour, 0), self.report)

    async def _drafts(self) -> None:
        """Compare draft invoices, which is when usage can still be put right."""
        prices = await store.usage_prices(self._db)
        if not prices:
            return
        self.report.reads += 1
        lines = await invoices.draft_lines(self._stripe, prices, pages=DRAFT_PAGES)
        await compare_lines(self._db, self._clock, lines, self.report)


async def compare_lines(
    db: Pool, clock: Clock, lines: Sequence[MeteredLine], report: ReconcileReport | None = None
) -> ReconcileReport:
    """Compare metered lines of invoices with what was sent for their periods; costs no read."""
    report = report or ReconcileReport()
    for line in lines:
        account_id = await store.customer_account(db, line.customer_id)
        if account_id is None:
            report.unknown_customers += 1
            continue
        place = Place(
            account_id=account_id,
            currency=line.currency,
            customer_id=line.customer_id,
            source=Source.INVOICE,
            start=line.start,
            end=line.end,
        )
        await compare(db, clock, place, line.quantity, report)
    return report


async def compare(db: Pool, clock: Clock, place: Place, found: int, report: ReconcileReport) -> None:
    """Compare one place with what Stripe has, and resolve what that proves."""
    report.places += 1
    async with db.acquire() as connection, connection.transaction():
        books, now = await store.lock_books(connection, place), clock.now()
        if not books.is_settled(now) or (place.source is Source.INVOICE and books.doubtful):
            report.unsettled += 1
            return
        explanation = explain(books, _unclamped(place, books, found))
        if explanation.kind is Kind.EQUAL and not explanation.absent:
            await _settle(connection, place, explanation, now)
            report.equal += 1
            report.found += len(explanation.present)
        elif await _disagree(connection, place, books, explanation, found=found, now=now):
            report.found += len(explanation.present)
            report.sent_again += len(explanation.absent)
        else:
            report.differences += 1
        failpoint("reconcile.before_commit")
    failpoint("reconcile.after_commit")


async def measure(db: Db) -> None:
    """Publish how many differences are open."""
    counts = Counter(await store.count_findings(db))
    for kind in (Kind.MISSING, Kind.SURPLUS, Kind.UNCLEAR):
        metrics.reconcile_findings_open.labels(kind).set(counts[kind])


def _unclamped(place: Place, books: Books, found: int) -> int:
    """Undo what Stripe does to an invoice whose usage is negative: its line says 0."""
    if place.source is Source.INVOICE and found == 0 and books.accepted < 0:
        return books.accepted
    return found


async def _disagree(
    db: Db, place: Place, books: Books, explanation: Explanation, *, found: int, now: datetime
) -> bool:
    """Keep a difference. When it was seen twice and is clear, send again what is missing, and return ``True``."""
    expected = books.accepted + sum(batch.value for batch in books.doubtful)
    kind = Kind.MISSING if explanation.kind is Kind.EQUAL else explanation.kind
    since = await store.note_finding(db, place, kind, expected=expected, found=found, now=now)
    if explanation.kind is not Kind.EQUAL or now - since < SEEN_APART:
        return False
    await _settle(db, place, explanation, now)
    return True


async def _settle(db: Db, place: Place, explanation: Explanation, now: datetime) -> None:
    """Write down what a comparison proved."""
    for batch in explanation.present:
        await _decide(db, batch, BatchState.CONFIRMED, reason="Stripe's sum contains it", now=now)
    for batch in explanation.absent:
        await _send_again(db, batch, now)
    await store.confirm(db, place, now)
    resolution = "sent again" if explanation.absent else "equal"
    await store.resolve_finding(db, place, resolution=resolution, now=now)


async def _send_again(db: Db, batch: Doubtful, now: datetime) -> None:
    if now - batch.event_at >= OLDEST_EVENT:
        await _decide(
            db, batch, BatchState.DEAD, reason="Stripe does not have it, and it is too old", now=now
        )
    else:
        await batches.reissue(
            db, batch.batch_id, reason="Stripe's sum does not contain it", actor=ACTOR, now=now
        )


async def _decide(db: Db, batch: Doubtful, state: BatchState, *, reason: str, now: datetime) -> None:
    error = NEVER_SENT_TOO_OLD if state is BatchState.DEAD else None
    await batches.decide(db, batch.batch_id, state, reason=reason, actor=ACTOR, now=now, error=error)
