"""Reports from Postgres."""

from datetime import datetime
from uuid import UUID

from admin.reports.model import Call
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries
from gateway.units import AmountPico, format_amount

QUERIES = load_queries("admin.reports")


async def latest_calls(
    db: Db, account_id: UUID, *, since: datetime, key_id: UUID | None, limit: int
) -> list[Call]:
    """Read the latest settled requests of an account, the latest first."""
    rows = await db.fetch(QUERIES["latest_calls"], account_id, since, key_id, limit)
    return [_call(row) for row in rows]


def _call(row: Row) -> Call:
    return Call(
        request_id=row["request_id"],
        key_id=row["key_id"],
        model=row["model"],
        occurred_at=row["occurred_at"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        amount=format_amount(AmountPico(row["amount_pico"])),
        currency=row["currency"],
        duration_ms=row["duration_ms"],
        usage_source=row["usage_source"],
        end_reason=row["end_reason"],
    )
