"""What a request of the playground cost, from Postgres."""

from uuid import UUID

from admin.portal.playground.model import Receipt
from gateway.db.pool import Db
from gateway.db.queries import load_queries
from gateway.units import AmountPico, format_amount

QUERIES = load_queries("admin.portal.playground")


async def receipt(db: Db, account_id: UUID, request_id: UUID) -> Receipt | None:
    """Read how a request of an account ended; ``None`` where the account has no such request."""
    row = await db.fetchrow(QUERIES["ending"], request_id, account_id)
    if row is None:
        return None
    if row["amount_pico"] is None:
        return Receipt(state=row["state"], end_reason=row["end_reason"])
    return Receipt(
        state=row["state"],
        end_reason=row["end_reason"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        amount=format_amount(AmountPico(row["amount_pico"])),
        currency=row["currency"],
        duration_ms=row["duration_ms"],
        usage_source=row["usage_source"],
    )
