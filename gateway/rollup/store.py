"""Closed days in Postgres."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec

from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries

QUERIES = load_queries(__package__)
SUM_TIMEOUT_S = 60


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """How many days wait to be closed, and the first of them; ``None`` where an open request holds it back, or none waits."""

    days: int
    due: date | None


async def lock_days(connection: Connection) -> None:
    """Keep out everybody who closes days or writes hours into them, until the transaction ends."""
    await connection.execute(QUERIES["lock_days"])


async def share_days(connection: Connection) -> None:
    """Keep days from being closed until the transaction ends."""
    await connection.execute(QUERIES["share_days"])


async def backlog(connection: Connection, *, margin_hours: int) -> Backlog:
    """Find what waits to be closed, of the UTC days that ended ``margin_hours`` ago."""
    row = await connection.fetchrow(QUERIES["backlog"], margin_hours)
    assert row is not None
    return Backlog(**row)


async def is_closed(connection: Connection, day: date) -> bool:
    """Tell whether a UTC day is closed."""
    return bool(await connection.fetchval(QUERIES["is_closed"], day))


async def sum_day(db: Db, day: date, account_ids: Sequence[UUID] | None) -> None:
    """Sum the hours of a UTC day, of some accounts or of all."""
    await db.execute(QUERIES["sum_day"], day, account_ids, timeout=SUM_TIMEOUT_S)


async def close_day(db: Db, day: date) -> None:
    """Say that a day and all before it are closed."""
    await db.execute(QUERIES["close_day"], day)
