"""Drafts, their impact, and corrections in Postgres."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from gateway.clock import Month
from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries
from gateway.prices.model import PriceBook
from gateway.units import Currency, TokenCounts

QUERIES = load_queries("billing.books")
RECALCULATE_TIMEOUT_S = 600
JSON = msgspec.json.Decoder()


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was used for; ``amount_pico`` is what that cost."""

    model: str
    accounts: int
    requests: int
    counts: TokenCounts
    amount_pico: int


class Repriced(msgspec.Struct, frozen=True, kw_only=True):
    """What repricing comes to for one account, in pico-currency."""

    account_id: UUID
    entries: int
    amount_before: int
    amount_after: int
    beyond_bill: int


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which usage is repriced by which book: a month, and in it one model or one account if named."""

    book_id: str
    period: Month
    model: str | None = None
    account_id: UUID | None = None

    @property
    def parameters(self) -> tuple[str, Month, str | None, UUID | None]:
        """Return what every statement about a scope begins with."""
        return self.book_id, self.period, self.model, self.account_id


async def fetch_draft(db: Db, book_id: str) -> PriceBook | None:
    """Read a draft."""
    row = await db.fetchrow(QUERIES["find_draft"], book_id)
    if row is None:
        return None
    columns: Mapping[str, Any] = {**row, "models": JSON.decode(row["models"])}
    return msgspec.convert(columns, PriceBook)


async def delete_draft(connection: Connection, book_id: str) -> None:
    """Forget a draft and its rates."""
    await connection.execute(QUERIES["delete_draft_rates"], book_id)
    await connection.execute(QUERIES["delete_draft"], book_id)


async def somebody_pays_in(db: Db, currency: Currency) -> bool:
    """Tell whether any account pays in a currency."""
    return await db.fetchval(QUERIES["pays_in"], currency) is not None


async def usage_by_model_since(db: Db, currency: Currency, since: datetime) -> list[ModelUsage]:
    """Sum what was used since a moment, by model."""
    rows = await db.fetch(QUERIES["usage_by_model_since"], currency, since, timeout=RECALCULATE_TIMEOUT_S)
    return [
        ModelUsage(
            model=row["model"],
            accounts=row["accounts"],
            requests=row["requests"],
            counts=TokenCounts(
                input_text=row["input_text"],
                input_cached=row["input_cached"],
                output_text=row["output_text"],
                output_reasoning=row["output_reasoning"],
            ),
            amount_pico=int(row["amount_pico"]),
        )
        for row in rows
    ]


async def repriced(db: Db, scope: Scope, period: Month) -> list[Repriced]:
    """Compute what repricing comes to, by account, if it is booked in ``period``."""
    rows = await db.fetch(QUERIES["repriced"], *scope.parameters, period, timeout=RECALCULATE_TIMEOUT_S)
    return [
        Repriced(
            account_id=row["account_id"],
            entries=row["entries"],
            amount_before=int(row["amount_before"]),
            amount_after=int(row["amount_after"]),
            beyond_bill=int(row["beyond_bill"]),
        )
        for row in rows
    ]


async def models_without_rate(db: Db, scope: Scope) -> list[str]:
    """Name the models in a scope that its book does not price."""
    rows = await db.fetch(QUERIES["repriced_without_rate"], *scope.parameters, timeout=RECALCULATE_TIMEOUT_S)
    return [row["model"] for row in rows]


async def lock_gates(connection: Connection, accounts: Sequence[UUID]) -> None:
    """Keep the settlements of some accounts out until the transaction ends."""
    await connection.execute(QUERIES["lock_gates"], accounts)


async def correct(
    connection: Connection, scope: Scope, *, now: datetime, period: Month, reason: str, actor: str
) -> None:
    """Write the corrections of a scope into ``period``."""
    await connection.execute(
        QUERIES["correct"], *scope.parameters, now, period, reason, actor, timeout=RECALCULATE_TIMEOUT_S
    )
