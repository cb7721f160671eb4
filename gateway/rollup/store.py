"""Closed days in Postgres."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries

QUERIES = load_queries(__package__)
SUM_TIMEOUT_S = 60


async def lock_days(connection: Connection) -> None:
    """Keep out everybody who closes days or writes hours into them, until the transaction ends."""
    await connection.execute(QUERIES["lock_days"])


async def share_days(connection: Connection) -> None:
    """Keep days from being closed until the transaction ends."""
    await connection.execute(QUERIES["share_days"])


async def due_day(connection: Connection, *, margin_hours: int) -> date | None:
    """Find the next UTC day that can be closed; ``None`` while there is none."""
    day: date | None = await connection.fetchval(QUERIES["due_day"], margin_hours)
    return day


async def is_closed(connection: Connection, day: date) -> bool:
    """Tell whether a UTC day is closed."""
    return bool(await connection.fetchval(QUERIES["is_closed"], day))


async def sum_day(db: Db, day: date, account_ids: Sequence[UUID] | None) -> None:
    """Sum the hours of a UTC day, of some accounts or of all."""
    await db.execute(QUERIES["sum_day"], day, account_ids, timeout=SUM_TIMEOUT_S)


async def close_day(db: Db, day: date) -> None:
    """Say that a day and all before it are closed."""
    await db.execute(QUERIES["close_day"], day)
