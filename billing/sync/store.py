"""Batches, carries and customers in Postgres."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from billing.sync.model import Batch, BatchState, Verdict
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.ledger.model import Span
from gateway.units import Currency

QUERIES = load_queries("billing.sync")
ENCODER = msgspec.json.Encoder()
CURRENCIES = [currency.value for currency in STRIPE_MONEY]
UNITS_PICO = [money.meter_unit_pico for money in STRIPE_MONEY.values()]
EVENT_NAMES = [money.event_name for money in STRIPE_MONEY.values()]
FREEZE_TIMEOUT_S = 60
VERIFY_TIMEOUT_S = 300
READDRESS_PAGE = 1_000

CHECKS = {
    "I3 a batch holds exactly its outbox rows": "verify_rows",
    "I3 batches and carry equal the outbox": "verify_units",
    "I12 a batch stays inside its hour and month": "verify_windows",
    "what a batch says is what was frozen": "verify_payloads",
}
"""Checked month by month, so that no statement reads more than one."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A batch that waits for an operator, and why."""

    batch_id: UUID
    account_id: UUID
    error: str | None


class Frozen(msgspec.Struct, frozen=True):
    """What one freezing made: batches to send, batches below one unit, and the entries in both."""

    batches: int
    empty: int
    entries: int


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it is shown to an operator; ``amount_pico`` is what its entries cost."""

    batch_id: UUID
    account_id: UUID
    currency: Currency
    period: str
    window_start: datetime
    entries: int
    amount_pico: int
    value: int
    event_at: datetime
    customer_id: str
    generation: int
    identifier: str
    state: BatchState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_error: str | None
    last_status: int | None
    last_request_id: str | None
    frozen_at: datetime
    accepted_at: datetime | None
    confirmed_at: datetime | None


class OldBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that Stripe does not have and does not take any more; ``value`` is in Stripe's units."""

    batch_id: UUID
    account_id: UUID
    currency: Currency
    period: str
    window_start: datetime
    entries: int
    amount_pico: int
    value: int
    customer_id: str
    drawn_pico: int
    """What the account paid from credit for the usage of that month, this batch's or other."""


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """Usage of long ago of an account that has no customer at Stripe."""

    account_id: UUID
    currency: Currency
    entries: int
    oldest_at: datetime
    amount_pico: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Outbox rows that no batch holds yet."""

    entries: int
    oldest_at: datetime | None
    entries_without_customer: int
    accounts_without_customer: int


class ParkedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account that nothing is sent for."""

    account_id: UUID
    customer_id: str
    parked_reason: str | None
    changed_at: datetime


async def lock_due_accounts(
    connection: Connection, *, after: UUID, cutoff: datetime, limit: int
) -> list[UUID]:
    """Lock a page of accounts that have usage from before ``cutoff`` to freeze."""
    rows = await connection.fetch(QUERIES["lock_due_accounts"], after, cutoff, limit)
    return [row["account_id"] for row in rows]


async def freeze(
    connection: Connection, accounts: Sequence[UUID], *, cutoff: datetime, max_rows: int, now: datetime
) -> Frozen:
    """Make batches of at most ``max_rows`` outbox rows of locked accounts."""
    row = await connection.fetchrow(
        QUERIES["freeze"],
        accounts,
        cutoff,
        max_rows,
        CURRENCIES,
        UNITS_PICO,
        EVENT_NAMES,
        now,
        timeout=FREEZE_TIMEOUT_S,
    )
    assert row is not None
    return Frozen(**row)


async def end_leases(db: Db, now: datetime) -> None:
    """Give back what dead workers leased."""
    await db.execute(QUERIES["end_leases"], now)


async def readdress(db: Db, now: datetime) -> None:
    """Let waiting batches follow their accounts to new customers, or doubt them where Stripe may have them."""
    await db.execute(QUERIES["doubt_stale"])
    while await _affected(db, QUERIES["readdress"], now, READDRESS_PAGE) == READDRESS_PAGE:
        pass


async def claim(
    db: Db, *, now: datetime, lease_until: datetime, busy: Collection[UUID], limit: int
) -> list[Batch]:
    """Lease at most ``limit`` batches that are due, of accounts that are not ``busy``; each is one attempt."""
    rows = await db.fetch(QUERIES["claim"], now, list(busy), limit, lease_until)
    return [_batch(row) for row in rows]


async def record(db: Db, verdicts: Sequence[Verdict], now: datetime) -> list[DeadLetter]:
    """Write down what attempts came to; return the batches that nothing is tried for any more."""
    written = await db.fetch(QUERIES["record"], ENCODER.encode(verdicts).decode(), now)
    return [
        DeadLetter(row["batch_id"], row["account_id"], row["last_error"])
        for row in written
        if row["state"] == BatchState.DEAD
    ]


async def park(db: Db, account_id: UUID, customer_id: str, *, reason: str, now: datetime) -> bool:
    """Stop sending for an account; ``False`` if it has another customer by now, or is parked already."""
    return await _affected(db, QUERIES["park"], account_id, customer_id, reason, now) > 0


async def find_batch(db: Db, batch_id: UUID) -> BatchRow | None:
    """Read and lock one batch."""
    row = await db.fetchrow(QUERIES["find_batch"], batch_id)
    return _row(row) if row else None


async def find_identifier(db: Db, identifier: str) -> UUID | None:
    """Find and lock the batch whose present generation has this identifier."""
    found: UUID | None = await db.fetchval(QUERIES["find_identifier"], identifier)
    return found


async def decide(
    db: Db,
    batch_id: UUID,
    state: BatchState,
    *,
    reason: str,
    actor: str,
    now: datetime,
    error: str | None = None,
) -> None:
    """Move a batch to ``confirmed``, ``unproven``, ``dead`` or ``empty`` on a decision that is kept."""
    await db.execute(QUERIES["decide"], batch_id, state, now, reason, actor, error)


async def reissue(db: Db, batch_id: UUID, *, reason: str, actor: str, now: datetime) -> None:
    """Let a batch be sent again under a new identifier."""
    await db.execute(QUERIES["reissue"], batch_id, now, reason, actor)


async def list_old(db: Db, *, before: datetime, account_id: UUID | None, limit: int) -> list[OldBatch]:
    """Read the batches from before a moment that Stripe never got, oldest first."""
    return [_old(row) for row in await db.fetch(QUERIES["list_old"], before, account_id, limit)]


async def lock_old(db: Db, batch_ids: Collection[UUID], *, before: datetime) -> list[OldBatch]:
    """Read and lock those of some batches that may be written off."""
    return [_old(row) for row in await db.fetch(QUERIES["lock_old"], before, list(batch_ids))]


async def orphans(db: Db, *, before: datetime, limit: int) -> list[Orphan]:
    """Read whose usage from before a moment waits for a customer."""
    return [
        Orphan(**{**row, "currency": Currency(row["currency"]), "amount_pico": int(row["amount_pico"])})
        for row in await db.fetch(QUERIES["count_without_customer"], before, limit)
    ]


async def write_off(
    db: Db, batch_ids: Collection[UUID], *, period: str, reason: str, actor: str, now: datetime
) -> int:
    """Write the entries that take back what batches cost; return how many."""
    return int(
        await db.fetchval(
            QUERIES["write_off"], list(batch_ids), now, period, reason, actor, timeout=FREEZE_TIMEOUT_S
        )
    )


async def count_states(db: Db) -> dict[str, int]:
    """Count the batches that are on their way, by state."""
    return {row["state"]: row["batches"] for row in await db.fetch(QUERIES["count_states"])}


async def backlog(db: Db) -> Backlog:
    """Measure what no batch holds yet."""
    row = await db.fetchrow(QUERIES["backlog"])
    assert row is not None
    return Backlog(**row)


async def oldest_unaccepted(db: Db) -> datetime | None:
    """Find the oldest hour that is in a batch and not at Stripe."""
    found: datetime | None = await db.fetchval(QUERIES["oldest_unaccepted"])
    return found


async def parked(db: Db, limit: int) -> list[ParkedAccount]:
    """Read the accounts that nothing is sent for."""
    return [ParkedAccount(**row) for row in await db.fetch(QUERIES["parked"], limit)]


async def count_parked(db: Db) -> int:
    """Count the accounts that nothing is sent for."""
    return int(await db.fetchval(QUERIES["count_parked"]))


async def list_troubled(db: Db, limit: int) -> list[BatchRow]:
    """Read the batches that somebody should look at."""
    return [_row(row) for row in await db.fetch(QUERIES["list_troubled"], limit)]


async def count_errors(db: Db, limit: int) -> dict[str, int]:
    """Count what Stripe last said about the batches that wait, by error."""
    return {row["last_error"]: row["batches"] for row in await db.fetch(QUERIES["count_errors"], limit)}


async def count_violations(db: Db, query: str, span: Span | None) -> int:
    """Count the rows of a span that break an invariant."""
    assert span is not None, "all checks of batches are by months"
    units = (CURRENCIES, UNITS_PICO) if query == "verify_units" else ()
    return int(await db.fetchval(QUERIES[query], *span.bounds, *units, timeout=VERIFY_TIMEOUT_S))


async def _affected(db: Db, query: str, *parameters: Any) -> int:
    status = await db.execute(query, *parameters)
    return int(status.split()[-1])


def _batch(row: Row) -> Batch:
    event = MeterEvent(**{name: row[name] for name in MeterEvent.__struct_fields__})
    rest = {name: row[name] for name in Batch.__struct_fields__ if name != "event"}
    return Batch(event=event, **rest)


def _old(row: Row) -> OldBatch:
    amounts = {name: int(row[name]) for name in ("amount_pico", "drawn_pico")}
    return OldBatch(**{**row, **amounts, "currency": Currency(row["currency"])})


def _row(row: Row) -> BatchRow:
    return BatchRow(
        **{
            **row,
            "currency": Currency(row["currency"]),
            "state": BatchState(row["state"]),
            "amount_pico": int(row["amount_pico"]),
        }
    )
