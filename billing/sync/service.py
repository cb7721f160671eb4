"""The way of usage to Stripe: freeze what is complete, and let operators see and decide what is stuck.

Rules of this room: what Stripe is told is frozen before it is told; a batch is never told twice under two names unless
it is proved that the first did not arrive; nothing is ever deleted. The ledger is not touched.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from billing.sync import store
from billing.sync.model import (
    OLDEST_EVENT,
    BatchNotFound,
    BatchNotRetryable,
    BatchState,
)
from billing.sync.store import BatchRow, Frozen, ParkedAccount
from gateway.audit import service as audit
from gateway.clock import Clock, Month
from gateway.db.pool import Connection, Db, Pool
from gateway.ids import FIRST_UUID
from gateway.ledger import service as ledger
from gateway.ledger.model import InvariantCheck
from gateway.ledger.service import Invariants
from gateway.runtime import metrics
from gateway.runtime.failpoints import failpoint

ACCOUNTS_PAGE = 200
ROWS_PAGE = 50_000
SHOWN = 20
HOUR = timedelta(hours=1)

INVARIANTS = Invariants(by_month=store.CHECKS, in_all={}, count=store.count_violations)

NO_CUSTOMER_CODES = frozenset({"meter_event_customer_not_found"})


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where all usage stands that is not confirmed yet."""

    waiting: int
    sending: int
    accepted: int
    unproven: int
    dead: int
    unbatched_entries: int
    entries_without_customer: int
    accounts_without_customer: int
    oldest_unsent_at: datetime | None
    parked: list[ParkedAccount]
    errors: dict[str, int]
    troubled: list[BatchRow]


def closed_before(now: datetime, settle_delay_s: int) -> datetime:
    """Return the end of the last UTC hour that is over for at least ``settle_delay_s``."""
    settled = now - timedelta(seconds=settle_delay_s)
    return settled.replace(minute=0, second=0, microsecond=0)


async def freeze_due(db: Pool, clock: Clock, cutoff: datetime) -> Frozen:
    """Make batches of all complete hours before ``cutoff``, a page of accounts in each transaction."""
    total = Frozen(0, 0, 0)
    after = FIRST_UUID
    while True:
        async with db.acquire() as connection, connection.transaction():
            accounts, frozen = await _freeze_page(connection, clock, after=after, cutoff=cutoff)
        if not accounts:
            return total
        if frozen.entries:
            failpoint("sync.after_freeze")
            total = Frozen(
                total.batches + frozen.batches, total.empty + frozen.empty, total.entries + frozen.entries
            )
        else:
            after = accounts[-1]


async def prepare(db: Db, clock: Clock) -> None:
    """Put right what ended unfinished: leases of dead workers, and batches for customers that were replaced."""
    await store.end_leases(db, clock.now())
    await store.readdress(db, clock.now())


async def retry(connection: Connection, clock: Clock, batch_id: UUID, *, reason: str, actor: str) -> BatchRow:
    """Have a batch sent again; the caller holds the transaction.

    Where Stripe certainly does not have it, it gets a new identifier. Where Stripe may have it, reconciling looks
    first. ``BatchNotFound``, or ``BatchNotRetryable`` with what to do instead.
    """
    batch = await _get(connection, batch_id)
    now = clock.now()
    if batch.state not in {BatchState.DEAD, BatchState.ACCEPTED}:
        raise BatchNotRetryable(_instead(batch.state))
    if batch.state is BatchState.ACCEPTED or batch.first_attempt_at is not None:
        await store.decide(connection, batch_id, BatchState.UNPROVEN, reason=reason, actor=actor, now=now)
    elif now - batch.event_at >= OLDEST_EVENT:
        raise BatchNotRetryable(
            "The usage is older than 34 days, and Stripe takes 35: bill it as an invoice item, or give it up, "
            "then `nusagate sync write-off`."
        )
    else:
        await store.reissue(connection, batch_id, reason=reason, actor=actor, now=now)
    return await _get(connection, batch_id)


async def rejected_later(connection: Connection, clock: Clock, identifier: str, stripe_code: str) -> bool:
    """Take in that Stripe accepted an event and then found it wrong; ``False`` if the identifier is none of ours.

    Its identifier is used up. Where only the customer is unknown, the account is parked and the batch gets a new
    identifier for the next customer; anything else is for an operator. The caller holds the transaction.
    """
    batch_id = await store.find_identifier(connection, identifier)
    if batch_id is None:
        return False
    batch, now = await _get(connection, batch_id), clock.now()
    if batch.state in {BatchState.DEAD, BatchState.CONFIRMED}:
        return True
    if stripe_code in NO_CUSTOMER_CODES:
        await park(connection, clock, batch.account_id, batch.customer_id, reason=stripe_code)
        await store.reissue(
            connection, batch_id, reason=f"Stripe reported {stripe_code}", actor="stripe", now=now
        )
    else:
        await store.decide(
            connection,
            batch_id,
            BatchState.DEAD,
            reason=f"Stripe reported {stripe_code}",
            actor="stripe",
            now=now,
            error=stripe_code,
        )
        await audit.record_decision(
            connection,
            clock,
            "batch:give_up",
            account_id=batch.account_id,
            object_id=batch_id,
            reason=stripe_code,
        )
    return True


async def park(
    connection: Connection, clock: Clock, account_id: UUID, customer_id: str, *, reason: str
) -> None:
    """Send nothing more for an account whose customer Stripe does not know; the caller holds the transaction."""
    if await store.park(connection, account_id, customer_id, reason=reason, now=clock.now()):
        await audit.record_decision(
            connection, clock, "customer:park", account_id=account_id, object_id=customer_id, reason=reason
        )


async def status(db: Db) -> SyncStatus:
    """Measure where all usage stands, and publish it as metrics."""
    states = await store.count_states(db)
    backlog = await store.backlog(db)
    oldest = min(
        (moment for moment in (backlog.oldest_at, await store.oldest_unaccepted(db)) if moment is not None),
        default=None,
    )
    for state, count in states.items():
        metrics.stripe_batches.labels(state).set(count)
    metrics.stripe_parked_accounts.set(await store.count_parked(db))
    return SyncStatus(
        **states,
        unbatched_entries=backlog.entries,
        entries_without_customer=backlog.entries_without_customer,
        accounts_without_customer=backlog.accounts_without_customer,
        oldest_unsent_at=oldest,
        parked=await store.parked(db, SHOWN),
        errors=await store.count_errors(db, SHOWN),
        troubled=await store.list_troubled(db, SHOWN),
    )


async def measure(db: Db, clock: Clock) -> None:
    """Publish how far behind Stripe is."""
    found = await status(db)
    oldest = found.oldest_unsent_at
    age = clock.now() - oldest if oldest is not None else timedelta()
    metrics.stripe_oldest_unsent_seconds.set(max(0, int(age.total_seconds())))


async def verify(
    db: Db, *, month: Month | None = None, begin: Callable[[str], object] = lambda _: None
) -> list[InvariantCheck]:
    """Check every invariant of batches that the database can show, in all of time or in one month only."""
    return await ledger.verify(db, month=month, begin=begin, invariants=INVARIANTS)


async def _freeze_page(
    connection: Connection, clock: Clock, *, after: UUID, cutoff: datetime
) -> tuple[list[UUID], Frozen]:
    accounts = await store.lock_due_accounts(connection, after=after, cutoff=cutoff, limit=ACCOUNTS_PAGE)
    if not accounts:
        return accounts, Frozen(0, 0, 0)
    frozen = await store.freeze(connection, accounts, cutoff=cutoff, max_rows=ROWS_PAGE, now=clock.now())
    failpoint("sync.in_freeze")
    return accounts, frozen


async def _get(connection: Connection, batch_id: UUID) -> BatchRow:
    batch = await store.find_batch(connection, batch_id)
    if batch is None:
        raise BatchNotFound(f"There is no batch {batch_id}.", param="batch")
    return batch


def _instead(state: BatchState) -> str:
    """Say why a batch is not retried, and what to do."""
    return {
        BatchState.WAITING: "The batch is waiting for its next attempt; `nusagate sync status` shows what Stripe last said.",
        BatchState.SENDING: "The batch is being sent at this moment.",
        BatchState.UNPROVEN: "Stripe may have the batch: `nusagate reconcile run` finds out and resolves it.",
        BatchState.CONFIRMED: "Stripe's own sums contain the batch.",
        BatchState.EMPTY: "The batch is never sent: it is less than one unit of Stripe's and was carried on, or it was written off.",
    }[state]
