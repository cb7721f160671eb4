"""The limits in Postgres: one function call decides a batch, records one, or reads what accounts may use."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from gateway.clock import Day, Month
from gateway.db.jsonb import jsonb_text
from gateway.db.pool import Db, Pool, Row, retry_contention
from gateway.db.queries import load_queries
from gateway.quota.model import (
    AccountSnapshot,
    Admission,
    Counter,
    Decision,
    OpenHold,
    Recording,
    ReserveRequest,
)

QUERIES = load_queries(__package__)
ENCODER = msgspec.json.Encoder()
COUNTERS = msgspec.json.Decoder(list[Counter])
HOLDS = msgspec.json.Decoder(list[OpenHold])


async def reserve(db: Pool, requests: Sequence[ReserveRequest], now: datetime | None) -> dict[UUID, Row]:
    """Reserve for a batch; ``now`` is for tests, the database's clock decides otherwise."""
    wanted = jsonb_text(ENCODER.encode(requests))
    rows = await retry_contention(lambda: db.fetch(QUERIES["reserve"], wanted, now))
    return {row["request_id"]: row for row in rows}


def decision(row: Row) -> Decision:
    """Read the decision in a row of ``reserve``."""
    return Decision(
        refused_by=row["refused_by"],
        granted_output=row["granted_output"],
        admitted_at=row["admitted_at"],
        month_used=row["month_used"],
        month_held=row["month_held"],
        scope_used=row["scope_used"],
        scope_held=row["scope_held"],
        retry_after_us=row["retry_after_us"],
        requests_remaining=row["requests_remaining"],
        requests_reset_us=row["requests_reset_us"],
        tokens_remaining=row["tokens_remaining"],
        tokens_reset_us=row["tokens_reset_us"],
    )


async def record(db: Pool, admissions: Sequence[Admission]) -> dict[UUID, Recording]:
    """Record a batch of requests that Redis admitted."""
    requests = jsonb_text(ENCODER.encode([admission.request for admission in admissions]))
    rows = await retry_contention(
        lambda: db.fetch(
            QUERIES["record"],
            requests,
            [admission.granted_output for admission in admissions],
            [admission.admitted_at for admission in admissions],
            [admission.fence for admission in admissions],
        )
    )
    return {
        row["request_id"]: Recording(
            outcome=row["outcome"],
            granted_output=row["granted_output"],
            admitted_at=row["admitted_at"],
            period=row["period"],
            book_id=row["book_id"],
        )
        for row in rows
    }


async def fence(db: Pool, account_ids: Sequence[UUID]) -> dict[UUID, AccountSnapshot]:
    """Take accounts from whoever knew them, and return all that their limits follow from."""
    rows = await retry_contention(lambda: db.fetch(QUERIES["fence"], list(account_ids)))
    return {
        row["account_id"]: AccountSnapshot(
            account_id=row["account_id"],
            fence=row["fence"],
            requests_tat_us=row["requests_tat_us"],
            tokens_tat_us=row["tokens_tat_us"],
            counters=COUNTERS.decode(row["counters"] or "[]"),
            holds=HOLDS.decode(row["holds"] or "[]"),
        )
        for row in rows
    }


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
