"""Caps, the limits that follow from them, and alerts in Postgres."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from billing.caps.model import EXHAUSTED_TOKENS, THRESHOLDS, PlanUse, SpendCap, Spending
from gateway.clock import Month
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.ids import FIRST_UUID, uuid7
from gateway.keys.model import SpendGuard
from gateway.units import AmountPico, Currency

QUERIES = load_queries("billing.caps")


async def save_cap(
    connection: Connection, account_id: UUID, cap: SpendCap, *, period: Month, now: datetime
) -> None:
    """Write a cap; an account that was never guarded may use nothing until ``save_guard``."""
    await connection.execute(QUERIES["save_cap"], account_id, cap.monthly_tokens, cap.monthly_micro, now)
    await close_guard(connection, account_id, period=period, now=now)


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
    months: Sequence[Month],
    after: UUID = FIRST_UUID,
    account_id: UUID | None = None,
    limit: int,
) -> list[Spending]:
    """Read a page of guarded accounts, or one, as they stand in the last of these months.

    Credit pays for what is used in all of them.
    """
    rows = await db.fetch(QUERIES["spending"], months[-1], after, account_id, limit, list(months))
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


async def find_choice(db: Db, account_id: UUID) -> tuple[int, ...]:
    """Read at which percents an account's owner wants mail."""
    return _percents(await db.fetchval(QUERIES["find_choice"], account_id))


async def save_choice(db: Db, account_id: UUID, percents: Collection[int], now: datetime) -> None:
    """Write at which percents an account's owner wants mail."""
    await db.execute(QUERIES["save_choice"], account_id, sorted(percents), now)


async def plan_use(db: Db, *, period: Month, after: UUID, limit: int) -> list[PlanUse]:
    """Read a page of the accounts for whose plan a mail may be due."""
    rows = await db.fetch(QUERIES["plan_use"], period, after, limit, EXHAUSTED_TOKENS, list(THRESHOLDS))
    return [PlanUse(**{**row, "percents": _percents(row["percents"])}) for row in rows]


async def post_mail(connection: Connection, address: str, subject: str, body: str, now: datetime) -> None:
    """Write a letter into the outbox of mail."""
    await connection.execute(QUERIES["post_mail"], uuid7(), address, subject, body, now)


async def close_guard(db: Db, account_id: UUID, *, period: Month, now: datetime) -> None:
    """Let an account that was never guarded use nothing until ``save_guard``."""
    await db.execute(QUERIES["close_guard"], account_id, period, now)


def _percents(chosen: list[int] | None) -> tuple[int, ...]:
    """Return what was chosen, the highest first; everything where nothing was."""
    return THRESHOLDS if chosen is None else tuple(sorted(chosen, reverse=True))


def _cap(row: Row) -> SpendCap:
    return SpendCap(monthly_tokens=row["monthly_tokens"], monthly_micro=row["monthly_micro"])


def _spending(row: Row, rates: dict[Currency, int]) -> Spending:
    currency = Currency(row["currency"])
    return Spending(
        account_id=row["account_id"],
        currency=currency,
        email=row["email"],
        language=row["language"],
        percents=_percents(row["percents"]),
        cap=_cap(row) if row["is_capped"] else None,
        credit_pico=None if row["credit_pico"] is None else int(row["credit_pico"]),
        used_tokens=row["used_tokens"],
        billable_pico=AmountPico(int(row["billable_pico"])),
        rate_max=rates.get(currency, 0),
        guard=SpendGuard(
            period=row["period"], period_tokens=row["period_tokens"], other_tokens=row["other_tokens"]
        ),
    )
