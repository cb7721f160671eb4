"""Caps, the limits that follow from them, and alerts in Postgres."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from billing.caps.model import SpendCap, Spending
from gateway.clock import Month
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.ids import uuid7
from gateway.keys.model import SpendGuard
from gateway.units import AmountPico, Currency

QUERIES = load_queries("billing.caps")
FIRST_UUID = UUID(int=0)


async def save_cap(
    connection: Connection, account_id: UUID, cap: SpendCap, *, period: Month, now: datetime
) -> None:
    """Write a cap; an account that was never guarded may use nothing until ``save_guard``."""
    await connection.execute(QUERIES["save_cap"], account_id, cap.monthly_tokens, cap.monthly_micro, now)
    await connection.execute(QUERIES["close_guard"], account_id, period, now)


async def delete_cap(db: Db, account_id: UUID) -> bool:
    """Take a cap away; ``False`` if there was none."""
    return await db.fetchval(QUERIES["delete_cap"], account_id) is not None


async def rates_max(db: Db, start: datetime, end: datetime) -> dict[Currency, int]:
    """Read the highest price of a token in each currency in [start, end), in pico-currency."""
    rows = await db.fetch(QUERIES["rates_max"], start, end)
    return {Currency(row["currency"]): row["rate_max"] for row in rows}


async def spending(
    db: Db,
    rates: dict[Currency, int],
    *,
    period: Month,
    after: UUID = FIRST_UUID,
    account_id: UUID | None = None,
    limit: int,
) -> list[Spending]:
    """Read a page of capped accounts, or one, as they stand in a month."""
    rows = await db.fetch(QUERIES["spending"], period, after, account_id, limit)
    return [_spending(row, rates) for row in rows]


async def save_guard(db: Db, account_id: UUID, guard: SpendGuard, now: datetime) -> None:
    """Write the limit of a capped account; every gateway hears of it."""
    await db.execute(
        QUERIES["save_guard"], account_id, guard.period, guard.period_tokens, guard.other_tokens, now
    )


async def note_alerts(
    connection: Connection,
    account_id: UUID,
    *,
    period: Month,
    subject: str,
    percents: Sequence[int],
    now: datetime,
) -> list[int]:
    """Note that thresholds were reached; return those that were not noted this month before."""
    rows = await connection.fetch(QUERIES["note_alerts"], account_id, period, subject, list(percents), now)
    return [row["percent"] for row in rows]


async def post_mail(connection: Connection, address: str, subject: str, body: str, now: datetime) -> None:
    """Write a letter into the outbox of mail."""
    await connection.execute(QUERIES["post_mail"], uuid7(), address, subject, body, now)


def _spending(row: Row, rates: dict[Currency, int]) -> Spending:
    currency = Currency(row["currency"])
    return Spending(
        account_id=row["account_id"],
        currency=currency,
        email=row["email"],
        language=row["language"],
        cap=SpendCap(monthly_tokens=row["monthly_tokens"], monthly_micro=row["monthly_micro"]),
        used_tokens=row["used_tokens"],
        held_tokens=row["held_tokens"],
        billable_pico=AmountPico(int(row["billable_pico"])),
        rate_max=rates.get(currency, 0),
        guard=SpendGuard(
            period=row["period"], period_tokens=row["period_tokens"], other_tokens=row["other_tokens"]
        ),
    )
