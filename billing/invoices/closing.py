"""Closing a month: open → closing → reconciled → closed, one step at a time, each only when nothing stands in its way.

After the last step the month takes no entry any more, and what it came to is kept as a digest. What is put right later
belongs to the month in which it is put right.
"""

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from billing.invoices import store
from billing.invoices.model import BilledUsage, MonthState, NothingToAccept, Obstacle
from billing.invoices.statement import to_minor
from gateway.clock import Clock, Month, month_end, month_of, month_start
from gateway.db.pool import Connection, Pool
from gateway.runtime.logging import get_logger

log = get_logger("closing")

SHOWN = 20
FINAL_AFTER = timedelta(days=3)
"""The longest grace of an invoice that Stripe offers."""
DETAILS = {
    "unbatched": "entries are not in a batch yet; `nusagate sync status` shows why",
    "unconfirmed": "batches are not proved by Stripe's sums; `nusagate reconcile run` compares them",
    "findings": "differences with Stripe are not resolved; `nusagate reconcile show` lists them",
    "drafts": "invoices are drafts; Stripe makes them final within three days",
}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a month is, and what keeps it there."""

    period: Month
    state: MonthState
    obstacles: tuple[Obstacle, ...]


async def advance(db: Pool, clock: Clock, period: Month) -> Standing:
    """Let a month take every step that nothing stands in the way of; repeating it changes nothing."""
    async with db.acquire() as connection, connection.transaction():
        return await advance_in(connection, clock, period)


async def advance_in(
    connection: Connection, clock: Clock, period: Month, accepted: Collection[UUID] = ()
) -> Standing:
    """Do the same in a transaction of the caller's; accounts that are ``accepted`` may be billed something else."""
    state = await store.lock_period(connection, period, clock.now())
    while state is not MonthState.CLOSED:
        obstacles = await _obstacles(connection, period, state, clock.now(), accepted)
        if obstacles:
            return Standing(period=period, state=state, obstacles=tuple(obstacles))
        state = await _step(connection, period, state, clock.now())
        log.info("month moves on", period=period, state=state.value)
    return Standing(period=period, state=state, obstacles=())


async def accept(connection: Connection, clock: Clock, period: Month, account_id: UUID) -> BilledUsage:
    """Let an operator take over what an account's invoices lack or have too much, and close the month's findings on them.

    Returns what was used and what is billed. ``NothingToAccept`` where they agree, or may still come to agree. The caller
    holds the transaction.
    """
    start, end = month_start(period), month_end(period)
    if clock.now() < end + FINAL_AFTER or await store.count_between(connection, "drafts", start, end):
        raise NothingToAccept("Invoices of the month may be drafts, and what comes in time is put on them.")
    for row in await store.billed_usage(connection, period, start, end):
        if row.account_id == account_id and _differs(row):
            await store.accept_findings(connection, account_id, start, end, clock.now())
            return row
    raise NothingToAccept(f"The account {account_id} is billed what it used in {period}.", param="accept")


async def advance_all(db: Pool, clock: Clock) -> list[Standing]:
    """Advance every month that is over, from the first with any usage on."""
    first = await store.first_period(db)
    if first is None:
        return []
    standings = []
    month, now = first, clock.now()
    while month_end(month) <= now:
        known = await store.find_period(db, month)
        if known is None or known.state is not MonthState.CLOSED:
            standings.append(await advance(db, clock, month))
        month = month_of(month_end(month))
    return standings


async def _obstacles(
    connection: Connection, period: Month, state: MonthState, now: datetime, accepted: Collection[UUID]
) -> list[Obstacle]:
    """Name what stands in the way of the next step."""
    start, end = month_start(period), month_end(period)
    if state is MonthState.OPEN:
        return [] if now >= end else [Obstacle(code="not_over", count=1, detail="the month is not over")]
    if state is MonthState.CLOSING:
        found = await _counted(connection, ("unbatched", "unconfirmed", "findings"), start, end)
        waiting = await store.count_open_requests(connection, period)
        if waiting:
            found.insert(0, Obstacle(code="open_requests", count=waiting, detail="requests have not ended"))
        return found
    found = await _counted(connection, ("drafts",), start, end)
    return found + await _unbilled(connection, period, start, end, accepted)


async def _counted(
    connection: Connection, questions: tuple[str, ...], start: datetime, end: datetime
) -> list[Obstacle]:
    found = []
    for question in questions:
        count = await store.count_between(connection, question, start, end)
        if count:
            found.append(Obstacle(code=question, count=count, detail=DETAILS[question]))
    return found


async def _unbilled(
    connection: Connection, period: Month, start: datetime, end: datetime, accepted: Collection[UUID]
) -> list[Obstacle]:
    """Find accounts whose invoices do not bill what the ledger says, to the minor unit."""
    differing = [
        row
        for row in await store.billed_usage(connection, period, start, end)
        if row.account_id not in accepted and _differs(row)
    ]
    if not differing:
        return []
    named = ", ".join(str(row.account_id) for row in differing[:SHOWN])
    return [
        Obstacle(
            code="unbilled", count=len(differing), detail=f"accounts are not billed what they used: {named}"
        )
    ]


def _differs(row: BilledUsage) -> bool:
    return to_minor(row.amount_pico, row.currency) != row.billed_minor


async def _step(connection: Connection, period: Month, state: MonthState, now: datetime) -> MonthState:
    if state is MonthState.RECONCILED:
        totals = await store.period_totals(connection, period)
        entries = await store.count_entries(connection, period, month_start(period), month_end(period))
        digest = hashlib.sha256(msgspec.json.encode(totals)).hexdigest()
        await store.close_period(connection, period, entries=entries, totals_sha256=digest, now=now)
        return MonthState.CLOSED
    following = MonthState.CLOSING if state is MonthState.OPEN else MonthState.RECONCILED
    await store.move_period(connection, period, following, now)
    return following
