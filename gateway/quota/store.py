"""The limits in Postgres: one function call decides and records a batch."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from gateway.clock import Day, Month
from gateway.db.jsonb import jsonb_text
from gateway.db.pool import Db, Pool, Row, retry_contention
from gateway.db.queries import load_queries
from gateway.quota.model import ReserveRequest

QUERIES = load_queries(__package__)
ENCODER = msgspec.json.Encoder()


async def reserve(db: Pool, requests: Sequence[ReserveRequest], now: datetime | None) -> dict[UUID, Row]:
    """Reserve for a batch; ``now`` is for tests, the database's clock decides otherwise."""
    wanted = jsonb_text(ENCODER.encode(requests))
    rows = await retry_contention(lambda: db.fetch(QUERIES["reserve"], wanted, now))
    return {row["request_id"]: row for row in rows}


async def counters(
    db: Db, account_id: UUID, subjects: Sequence[UUID], periods: Sequence[Month | Day]
) -> dict[tuple[UUID, str], tuple[int, int]]:
    """Read (used, held) by subject and period; what is absent is zero."""
    rows = await db.fetch(QUERIES["counters"], account_id, list(subjects), list(periods))
    return {(row["subject_id"], row["period"]): (row["used_tokens"], row["held_tokens"]) for row in rows}


async def database_time(db: Db) -> datetime:
    """Read the database's clock."""
    moment: datetime = await db.fetchval(QUERIES["database_time"])
    return moment
