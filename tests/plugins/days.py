"""Closed days in tests: hours written by hand, days closed whatever the clock says, and what the checks say of them."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from gateway.db.pool import Db
from gateway.ledger.model import Span
from gateway.ledger.store import count_violations
from gateway.rollup import store

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FORGET = "DELETE FROM usage_closed"
"""Without the watermark every reading is one of hours alone."""


async def today(db: Db) -> datetime:
    """The midnight with which the database's UTC day began."""
    moment: datetime = await db.fetchval("SELECT date_trunc('day', clock_timestamp(), 'UTC')")
    return moment


async def use(
    db: Db, account_id: UUID, hour: datetime, *, requests: int = 1, model: str = "nusantara-base"
) -> None:
    """Write usage of an hour into the read model, as settling does."""
    await db.execute(
        """
        INSERT INTO usage_hourly AS h VALUES ($1, $2, $1, $3, 'completed', 'idr', $4, 7, 2, 5, 1, 60)
        ON CONFLICT (account_id, hour, key_id, model, end_reason, currency) DO UPDATE SET requests = h.requests + $4
        """,
        account_id, hour, model, requests,
    )  # fmt: skip


async def close_until(db: Db, last_day: date) -> None:
    """Close a day and all before it, as if their time had come."""
    for row in await db.fetch("SELECT DISTINCT (hour AT TIME ZONE 'UTC')::date AS day FROM usage_hourly"):
        if row["day"] <= last_day:
            await store.sum_day(db, row["day"], None)
    await store.close_day(db, last_day)


async def last_closed(db: Db) -> date | None:
    """The watermark."""
    day: date | None = await db.fetchval("SELECT last_day FROM usage_closed")
    return day


async def wrong_rows(db: Db) -> int:
    """How many rows of closed days are not the sum of their hours."""
    return await count_violations(db, "verify_daily", Span(None, None))


def day_of(moment: datetime) -> date:
    """The UTC day of a moment."""
    return moment.astimezone(UTC).date()
