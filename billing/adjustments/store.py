"""Adjustments in Postgres."""

from datetime import datetime
from uuid import UUID

from billing.adjustments.model import Adjustment, Standing
from gateway.clock import day_of, month_of
from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries
from gateway.units import AmountPico, Currency

QUERIES = load_queries("billing.adjustments")


async def standing(db: Db, account_id: UUID, now: datetime) -> Standing | None:
    """Read where an account stands this month."""
    row = await db.fetchrow(QUERIES["standing"], account_id, month_of(now), day_of(now))
    if row is None:
        return None
    return Standing(
        **{
            **row,
            "currency": Currency(row["currency"]),
            "spent_pico": AmountPico(int(row["spent_pico"])),
        }
    )


async def write(
    connection: Connection, standing: Standing, adjustment: Adjustment, *, book_id: str, now: datetime
) -> None:
    """Write an adjustment into the month of ``now``, with all that follows from it."""
    await connection.execute(
        QUERIES["write"],
        adjustment.entry_id,
        now,
        standing.account_id,
        standing.plan_id,
        month_of(now),
        adjustment.tokens,
        standing.currency,
        book_id,
        adjustment.amount_pico,
        standing.pays_by_use,
        adjustment.reason,
        adjustment.actor,
        day_of(now),
    )
