"""Usage that came too late for Stripe: what it amounts to, and giving it up.

Stripe takes meter events of the last 35 days. What is older is never sent. An operator bills it by an invoice item in
Stripe, or does not bill it; either way it is written off here, so that ledger, batches and invoices agree again.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from billing.books.store import lock_gates
from billing.stripe.money import STRIPE_MONEY
from billing.sync import store
from billing.sync.model import OLDEST_EVENT, BatchState
from billing.sync.store import OldBatch, Orphan
from gateway.clock import Clock, month_of
from gateway.db.pool import Connection, Db
from gateway.errors import InvalidValue, NusagateError
from gateway.rollup import service as rollup
from gateway.units import AmountPico, Currency, format_amount

PAGE = 1_000
SHOWN = 100


class NotWritableOff(NusagateError):
    """This batch is not older than 34 days, or Stripe has it or may have it, or it was written off before."""

    code = "not_writable_off"


class OldUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One batch that Stripe will never take, as an operator sees it; ``stripe_amount`` is what an invoice item would say."""

    batch_id: UUID
    account_id: UUID
    customer_id: str
    currency: Currency
    period: str
    hour: datetime
    entries: int
    amount: str
    stripe_amount: str
    paid_from_credit: bool
    """Whether the account paid for usage of that month from credit: maybe for this."""


class OldReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is too old for Stripe, and usage whose account has no customer, which no batch holds yet."""

    batches: tuple[OldUsage, ...]
    without_customer: tuple[Orphan, ...]


class WriteOff(msgspec.Struct, frozen=True, kw_only=True):
    """What was written off, or would be."""

    applied: bool
    batches: tuple[OldUsage, ...]
    entries: int
    totals: dict[Currency, str]


async def old_usage(db: Db, clock: Clock, *, account_id: UUID | None = None, limit: int = SHOWN) -> OldReport:
    """List what Stripe will never take, oldest first."""
    before = clock.now() - OLDEST_EVENT
    found = await store.list_old(db, before=before, account_id=account_id, limit=limit)
    return OldReport(
        batches=tuple(_shown(batch) for batch in found),
        without_customer=tuple(await store.orphans(db, before=before, limit=limit)),
    )


async def write_off(
    connection: Connection, clock: Clock, batch_ids: Collection[UUID], *, reason: str, actor: str, apply: bool
) -> WriteOff:
    """Give up batches: entries of the current month take back what they cost, and they are never sent.

    A dry run unless ``apply``. The caller holds the transaction. ``NotWritableOff`` names the first that cannot be.
    """
    now = clock.now()
    found = await store.lock_old(connection, batch_ids, before=now - OLDEST_EVENT)
    missing = sorted(set(batch_ids) - {batch.batch_id for batch in found})
    if missing:
        raise NotWritableOff(
            f"The batch {missing[0]} is not a dead letter that is older than 34 days and that Stripe certainly "
            "does not have: `nusagate sync old` lists those.",
            param="batch",
        )
    entries = sum(batch.entries for batch in found)
    if apply and found:
        await _apply(connection, found, entries, reason=reason, actor=actor, now=now)
    return WriteOff(
        applied=apply and bool(found),
        batches=tuple(_shown(batch) for batch in found),
        entries=entries,
        totals=_totals(found),
    )


async def choose(db: Db, clock: Clock, account_id: UUID | None) -> list[UUID]:
    """Choose all that can be written off, of one account or of everybody; ``InvalidValue`` if there is nothing."""
    before = clock.now() - OLDEST_EVENT
    found = await store.list_old(db, before=before, account_id=account_id, limit=PAGE)
    if not found:
        raise InvalidValue("There is no usage that is too old for Stripe.")
    return [batch.batch_id for batch in found]


async def _apply(
    connection: Connection, found: Sequence[OldBatch], entries: int, *, reason: str, actor: str, now: datetime
) -> None:
    accounts = sorted({batch.account_id for batch in found})
    await lock_gates(connection, accounts)
    written = await store.write_off(
        connection,
        [batch.batch_id for batch in found],
        period=month_of(now),
        reason=reason,
        actor=actor,
        now=now,
    )
    assert written == entries, "a batch holds exactly its entries"
    await rollup.follow(connection, accounts, now)
    for batch in found:
        await store.decide(
            connection,
            batch.batch_id,
            BatchState.EMPTY,
            reason=f"written off: {reason}",
            actor=actor,
            now=now,
        )


def _totals(found: Sequence[OldBatch]) -> dict[Currency, str]:
    sums: dict[Currency, int] = {}
    for batch in found:
        sums[batch.currency] = sums.get(batch.currency, 0) + batch.amount_pico
    return {currency: format_amount(AmountPico(amount)) for currency, amount in sums.items()}


def _shown(batch: OldBatch) -> OldUsage:
    unit_pico = STRIPE_MONEY[batch.currency].meter_unit_pico
    return OldUsage(
        batch_id=batch.batch_id,
        account_id=batch.account_id,
        customer_id=batch.customer_id,
        currency=batch.currency,
        period=batch.period,
        hour=batch.window_start,
        entries=batch.entries,
        amount=format_amount(AmountPico(batch.amount_pico)),
        stripe_amount=format_amount(AmountPico(batch.value * unit_pico)),
        paid_from_credit=batch.drawn_pico > 0,
    )
