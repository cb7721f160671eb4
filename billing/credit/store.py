"""The journal of credit in Postgres."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from billing.credit.model import CreditCurrencyMismatch, CreditEntry, MonthOfUse, Transfer
from gateway.clock import Month, month_end, month_of, month_start
from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries
from gateway.ids import uuid7
from gateway.units import Currency

QUERIES = load_queries("billing.credit")
RESOLUTION = timedelta(microseconds=1)
MONTH_TIMEOUT_S = 120


def months_around(now: datetime) -> tuple[Month, Month]:
    """Return the month before and this one: requests of the month before may still be ending."""
    this = month_of(now)
    return month_of(month_start(this) - RESOLUTION), this


async def post(connection: Connection, transfer: Transfer, now: datetime) -> bool:
    """Write both sides of a transfer, once; ``False`` if it happened before. The caller holds the transaction.

    ``CreditCurrencyMismatch`` for an account whose credit is in another currency.
    """
    balance = await _balance_of(connection, transfer.owner_id, transfer.currency, now)
    await connection.execute(QUERIES["open_ours"], uuid7(), transfer.side, transfer.currency)
    ours = await connection.fetchval(QUERIES["find_ours"], transfer.side, transfer.currency)
    sides = ((balance, transfer.amount_pico), (ours, -transfer.amount_pico))
    written = [
        await connection.fetchval(
            QUERIES["insert_entry"], transfer.key, place, amount, transfer.reason, transfer.actor, now
        )
        for place, amount in sides
    ]
    return written[0] is not None


async def left(db: Db, account_id: UUID, now: datetime) -> int | None:
    """Return what an account has left, in pico-currency; ``None`` if it never had credit."""
    amount = await db.fetchval(QUERIES["left"], account_id, list(months_around(now)))
    return None if amount is None else int(amount)


async def find_balance(db: Db, account_id: UUID) -> tuple[UUID, Currency] | None:
    """Return where an account's balance is kept, and in which currency."""
    row = await db.fetchrow(QUERIES["find_balance"], account_id)
    return (row["credit_account_id"], Currency(row["currency"])) if row else None


async def latest_entries(db: Db, credit_account_id: UUID, limit: int) -> list[CreditEntry]:
    """Read the latest entries of a balance."""
    rows = await db.fetch(QUERIES["latest_entries"], credit_account_id, limit)
    return [CreditEntry(**{**row, "amount_pico": int(row["amount_pico"])}) for row in rows]


async def is_posted(db: Db, transfer_key: str) -> bool:
    """Tell whether a transfer has happened."""
    return bool(await db.fetchval(QUERIES["is_posted"], transfer_key))


async def lock_months(connection: Connection, account_id: UUID, now: datetime) -> list[MonthOfUse]:
    """Hold this month of use and the one before until the transaction ends."""
    months = months_around(now)
    await connection.execute(QUERIES["begin_month"], account_id, months[-1], False, now)
    rows = await connection.fetch(QUERIES["months_of_use"], account_id, list(months))
    exact = ("billable_pico", "seen_pico", "pending_pico", "drawn_pico")
    return [MonthOfUse(**{**row, **{name: int(row[name]) for name in exact}}) for row in rows]


async def save_month(connection: Connection, account_id: UUID, month: MonthOfUse) -> None:
    """Write how much of a month's usage the journal knows."""
    await connection.execute(
        QUERIES["save_month"],
        account_id,
        month.period,
        month.seen_pico,
        month.pending_pico,
        month.drawn_pico,
        month.posted_at,
    )


async def balances_page(db: Db, *, after: UUID, limit: int) -> Sequence[UUID]:
    """Read a page of the accounts that have credit."""
    return [row["owner_id"] for row in await db.fetch(QUERIES["balances_page"], after, limit)]


async def is_subscribed(db: Db, account_id: UUID) -> bool:
    """Tell whether a subscription pays for an account's usage."""
    return bool(await db.fetchval(QUERIES["is_subscribed"], account_id))


async def prepaid_in(db: Db, account_id: UUID, period: Month) -> int | None:
    """Return what credit pays for of a month that it shares with a subscription; ``None`` where it shares none.

    In pico-currency, from the ledger itself: what Stripe bills goes by when a request was admitted, so this does, too.
    """
    span = month_start(period), month_end(period)
    if not await db.fetchval(QUERIES["is_shared"], account_id, *span):
        return None
    return int(await db.fetchval(QUERIES["prepaid_in"], account_id, *span, timeout=MONTH_TIMEOUT_S))


async def drawn_in(db: Db, account_id: UUID, period: Month) -> int:
    """Return what of a month's usage was paid from credit, in pico-currency."""
    return int(await db.fetchval(QUERIES["drawn_in"], account_id, period) or 0)


async def count_violations(db: Db) -> int:
    """Count transfers that do not sum to zero and balances below zero."""
    return int(await db.fetchval(QUERIES["verify_credit"], timeout=300))


async def _balance_of(connection: Connection, owner_id: UUID, currency: Currency, now: datetime) -> UUID:
    """Find an account's balance, or open it: what was used before then is not paid from it."""
    opened = await connection.fetchval(QUERIES["open_balance"], uuid7(), owner_id, currency)
    if opened is not None:
        for month in months_around(now):
            await connection.execute(QUERIES["begin_month"], owner_id, month, True, now)
    found = await find_balance(connection, owner_id)
    assert found is not None
    if found[1] is not currency:
        raise CreditCurrencyMismatch
    return found[0]
