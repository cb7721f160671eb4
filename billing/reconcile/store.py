"""Comparisons and findings in Postgres."""

from datetime import datetime
from uuid import UUID

import msgspec

from billing.reconcile.model import Books, Doubtful, Finding, Kind, Place, Source
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.ids import uuid7
from gateway.units import Currency

QUERIES = load_queries("billing.reconcile")
DOUBTFUL = msgspec.json.Decoder(list[tuple[UUID, int, datetime]])


class Compared(msgspec.Struct, frozen=True):
    """A customer whose batches are to be compared in one currency."""

    account_id: UUID
    currency: Currency
    customer_id: str


async def suspicious(db: Db, limit: int) -> list[Compared]:
    """Read the customers that must be compared."""
    return [_compared(row) for row in await db.fetch(QUERIES["suspicious"], limit)]


async def sample(db: Db, *, day: int, days: int, not_since: datetime, limit: int) -> list[Compared]:
    """Read the customers whose turn it is on a day; one part in ``days`` of all accounts."""
    return [_compared(row) for row in await db.fetch(QUERIES["sample"], limit, day, days, not_since)]


async def open_hours(db: Db, compared: Compared) -> list[datetime]:
    """Read the hours of a customer that have something to prove."""
    rows = await db.fetch(QUERIES["open_hours"], compared.account_id, compared.currency, compared.customer_id)
    return [row["window_start"] for row in rows]


async def read_books(db: Db, place: Place) -> Books:
    """Read our side of a place."""
    row = await db.fetchrow(QUERIES["books"], *_where(place), place.start, place.source)
    assert row is not None
    doubtful = tuple(Doubtful(*one) for one in DOUBTFUL.decode(row["doubtful"]))
    return Books(accepted=row["accepted"], doubtful=doubtful, busy=row["busy"], changed_at=row["changed_at"])


async def lock_books(connection: Connection, place: Place) -> Books:
    """Read our side of a place and keep it as it is until the transaction ends."""
    await connection.execute(QUERIES["lock_place"], *_where(place), place.start)
    return await read_books(connection, place)


async def confirm(db: Db, place: Place, now: datetime) -> None:
    """Say that Stripe's own sum contains what it accepted."""
    await db.execute(QUERIES["confirm"], *_where(place), place.start, now)


async def note_finding(
    db: Db, place: Place, kind: Kind, *, expected: int, found: int, now: datetime
) -> datetime:
    """Keep a difference; return since when it has been seen unchanged."""
    since: datetime = await db.fetchval(
        QUERIES["note_finding"],
        uuid7(),
        place.account_id,
        place.currency,
        place.customer_id,
        place.source,
        kind,
        place.first_hour,
        expected,
        found,
        now,
    )
    return since


async def resolve_finding(db: Db, place: Place, *, resolution: str, now: datetime) -> None:
    """Close the difference of a place, if there is one."""
    await db.execute(
        QUERIES["resolve_finding"],
        place.account_id,
        place.currency,
        place.customer_id,
        place.source,
        place.first_hour,
        now,
        resolution,
    )


async def note_turn(db: Db, account_id: UUID, now: datetime) -> None:
    """Remember when an account was compared."""
    await db.execute(QUERIES["note_turn"], account_id, now)


async def customer_account(db: Db, customer_id: str) -> UUID | None:
    """Find the account of a customer."""
    found: UUID | None = await db.fetchval(QUERIES["customer_account"], customer_id)
    return found


async def usage_prices(db: Db) -> frozenset[str]:
    """Read which of our prices bill usage; Stripe need not be asked for what we made there."""
    return frozenset(row["price_id"] for row in await db.fetch(QUERIES["usage_prices"]))


async def list_findings(db: Db, *, open_only: bool, limit: int) -> list[Finding]:
    """Read differences, newest first."""
    rows = await db.fetch(QUERIES["list_findings"], limit, open_only)
    return [finding_of(row) for row in rows]


async def count_findings(db: Db) -> dict[str, int]:
    """Count open differences by kind."""
    return {row["kind"]: row["findings"] for row in await db.fetch(QUERIES["count_findings"])}


def finding_of(row: Row) -> Finding:
    """Read a difference out of its row."""
    return Finding(**{**row, "source": Source(row["source"]), "kind": Kind(row["kind"])})


def _compared(row: Row) -> Compared:
    return Compared(row["account_id"], Currency(row["currency"]), row["customer_id"])


def _where(place: Place) -> tuple[UUID, Currency, str, datetime, datetime]:
    return place.account_id, place.currency, place.customer_id, place.first_hour, place.end
