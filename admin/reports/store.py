"""Reports from Postgres, from the read models wherever they know enough."""

from datetime import datetime, timedelta
from uuid import UUID

from admin.reports.model import Call, CallDetail, CallPage, Cell, Cells
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries
from gateway.ids import LAST_UUID
from gateway.units import AmountPico, TokenCounts, format_amount

QUERIES = load_queries("admin.reports")

USER = "user"
MODELS_MAX = 200
CALL_ROUNDS = 4
"""How often the next hours are looked into when those before had only requests that served nothing."""


async def latest_calls(
    db: Db, account_id: UUID, *, since: datetime, key_id: UUID | None, limit: int
) -> list[Call]:
    """Read the latest settled requests of an account, the latest first."""
    rows = await db.fetch(QUERIES["latest_calls"], account_id, since, key_id, limit)
    return [_call(row) for row in rows]


async def calls_before(
    db: Db,
    account_id: UUID,
    before: tuple[datetime, UUID],
    *,
    key_id: UUID | None,
    model: str | None,
    status: str | None,
    limit: int,
) -> CallPage:
    """Read a page of an account's settled requests before a moment and an id, the latest first."""
    found: list[Call] = []
    moment, request_id = before
    for _ in range(CALL_ROUNDS):
        rows = await db.fetch(
            QUERIES["calls"], account_id, moment, request_id, key_id, model, status, limit + 1
        )
        found += [_call(row) for row in rows if row["request_id"] is not None]
        if len(found) > limit or len(rows) <= limit:
            break
        last = rows[-1]
        if last["request_id"] is None:
            moment, request_id = last["hour"] - timedelta(microseconds=1), LAST_UUID
        else:
            moment, request_id = last["occurred_at"], last["request_id"]
    return CallPage(found[:limit], has_older=len(found) > limit)


async def find_call(db: Db, account_id: UUID, request_id: UUID) -> CallDetail | None:
    """Read one settled request of an account; ``None`` where there is none."""
    row = await db.fetchrow(QUERIES["call_detail"], request_id, account_id)
    if row is None:
        return None
    columns = dict(row)
    counts = TokenCounts(**{name: columns.pop(f"{name}_tokens") for name in TokenCounts.__struct_fields__})
    return CallDetail(counts=counts, **columns)


async def models_used(db: Db, account_id: UUID, since: datetime) -> list[str]:
    """Name the models that an account used since a moment."""
    rows = await db.fetch(QUERIES["models_used"], account_id, since, MODELS_MAX)
    return [row["model"] for row in rows]


async def cells(
    db: Db,
    account_id: UUID,
    span: tuple[datetime, datetime],
    *,
    bar_hours: int,
    group: str,
    places: tuple[int, int],
) -> Cells:
    """Sum usage by bars of so many hours and by model, key, status or user, in one reading of a read model.

    ``places`` is how many groups have bars of their own, and how many a sum of their own; those by ``user`` have days only.
    """
    if group == USER:
        rows = await db.fetch(QUERIES["usage_cells_by_user"], account_id, *span, *places)
    else:
        rows = await db.fetch(QUERIES["usage_cells"], account_id, *span, bar_hours, group, *places)
    found = [_cell(row) for row in rows]
    return Cells(
        [cell for cell in found if cell.moment is not None], [cell for cell in found if cell.moment is None]
    )


def _cell(row: Row) -> Cell:
    return Cell(
        moment=row["moment"],
        group=row["grouped"],
        currency=row["currency"],
        requests=row["requests"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        amount_pico=AmountPico(int(row["amount_pico"])),
    )


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
