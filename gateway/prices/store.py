"""Price books in Postgres."""

from collections import defaultdict
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.prices.model import BookConflict, PriceBook
from gateway.units import Currency

QUERIES = load_queries("gateway.prices")


class WrittenBook(msgspec.Struct, frozen=True):
    """What is known of a book that was written before."""

    book_id: str
    content_sha256: str
    effective_to: datetime | None
    published: bool


class LastBook(msgspec.Struct, frozen=True):
    """The published book of a currency that has no end yet."""

    book_id: str
    effective_from: datetime


async def fetch_book(db: Db, book_id: str) -> PriceBook | None:
    """Read a published book with its rates."""
    row = await db.fetchrow(QUERIES["find_book"], book_id)
    return (await _with_rates(db, [row]))[0] if row else None


async def fetch_books_at(db: Db, moment: datetime, currency: Currency | None) -> list[PriceBook]:
    """Read the published books that hold at a moment, of one currency or of all."""
    return await _with_rates(db, await db.fetch(QUERIES["books_at"], moment, currency))


async def lock_currency(connection: Connection, currency: Currency) -> None:
    """Wait until nobody else publishes in this currency."""
    await connection.execute(QUERIES["lock_currency"], currency)


async def fetch_written(connection: Connection, book: PriceBook) -> list[WrittenBook]:
    """Read the books that were written under this book's id or version."""
    rows = await connection.fetch(QUERIES["written_books"], book.book_id, book.currency, book.version)
    return [WrittenBook(**row) for row in rows]


async def fetch_last(connection: Connection, currency: Currency) -> LastBook | None:
    """Read which book of a currency has no end yet."""
    row = await connection.fetchrow(QUERIES["last_book"], currency)
    return LastBook(**row) if row else None


async def end_book(connection: Connection, book_id: str, moment: datetime) -> None:
    """Let a book hold until a moment."""
    await connection.execute(QUERIES["end_book"], book_id, moment)


async def insert_draft(connection: Connection, book: PriceBook) -> None:
    """Write a book that is not published yet."""
    await connection.execute(
        QUERIES["insert_book"],
        book.book_id,
        book.currency,
        book.version,
        book.effective_from,
        book.effective_to,
        book.content_sha256,
    )
    rates = [
        (model, name, rate) for model, given in book.rates.items() for name, rate in given.given().items()
    ]
    models, classes, prices = zip(*rates, strict=True)
    await connection.execute(QUERIES["insert_rates"], book.book_id, models, classes, prices)


async def insert_published(
    connection: Connection, book: PriceBook, moment: datetime, published_by: str
) -> None:
    """Write a book and publish it; ``BookConflict`` if it overlaps another one of its currency."""
    await insert_draft(connection, book)
    try:
        await connection.execute(QUERIES["publish_book"], book.book_id, moment, published_by)
    except asyncpg.ExclusionViolationError as error:
        raise BookConflict(
            f"The price book {book.book_id} overlaps another one in {book.currency}."
        ) from error


async def _with_rates(db: Db, rows: list[Row]) -> list[PriceBook]:
    rates: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for rate in await db.fetch(QUERIES["rates_of"], [row["book_id"] for row in rows]):
        rates[rate["book_id"]][rate["model"]][rate["token_class"]] = rate["micro_per_mtok"]
    return [_book({**row, "models": rates[row["book_id"]]}) for row in rows]


def _book(columns: dict[str, Any]) -> PriceBook:
    return msgspec.convert(columns, PriceBook)
