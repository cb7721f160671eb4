"""Counts of refusals in Postgres."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from gateway.db.pool import Db, Pool, retry_contention
from gateway.db.queries import load_queries
from gateway.refusals.model import RefusalRow

QUERIES = load_queries(__package__)

Refused: TypeAlias = tuple[UUID, UUID, datetime, str]
"""Whose requests are counted together: account, key, hour and reason."""


async def add(db: Pool, counts: Mapping[Refused, int]) -> None:
    """Add counts to those that are there, all or none."""
    accounts, keys, hours, reasons = (list(column) for column in zip(*counts, strict=True))
    requests = list(counts.values())
    await retry_contention(lambda: db.execute(QUERIES["add"], accounts, keys, hours, reasons, requests))


async def by_reason(db: Db, account_id: UUID, start: datetime, end: datetime) -> list[RefusalRow]:
    """Sum the refusals of an account by reason, over the hours that begin in a range of time."""
    rows = await db.fetch(QUERIES["by_reason"], account_id, start, end)
    return [RefusalRow(reason=row["reason"], requests=row["requests"]) for row in rows]


async def delete_old(db: Db, *, older_than_days: int, page: int) -> int:
    """Clear one page of old counts; return how many went."""
    status = await db.execute(QUERIES["delete_old"], older_than_days, page)
    return int(status.split()[-1])
