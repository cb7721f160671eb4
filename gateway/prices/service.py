"""Reading price books, publishing them, and keeping the ones that settlements need at hand."""

import asyncio
from datetime import datetime

from gateway.clock import Clock, format_utc
from gateway.db.pool import Connection, Db
from gateway.prices import store
from gateway.prices.model import BookConflict, BookNotFound, PriceBook
from gateway.prices.store import WrittenBook
from gateway.units import Currency

BOOKS_KEPT_MAX = 256
"""Books in use at once are a handful; the bound only keeps history from piling up in memory."""


async def load_book(db: Db, book_id: str) -> PriceBook:
    """Read a published book; ``BookNotFound`` if there is none with this id."""
    book = await store.fetch_book(db, book_id)
    if book is None:
        raise BookNotFound(f"There is no published price book {book_id!r}.")
    return book


async def books_at(db: Db, moment: datetime, currency: Currency | None) -> list[PriceBook]:
    """Read the books that hold at a moment, of one currency or of all."""
    return await store.fetch_books_at(db, moment, currency)


async def publish(connection: Connection, clock: Clock, book: PriceBook, *, published_by: str) -> bool:
    """Publish a book, ending the one before it; ``False`` if exactly this book is published already.

    The caller holds the transaction. ``BookConflict`` if the book contradicts what is published, or would
    change a price for a time that has passed.
    """
    await store.lock_currency(connection, book.currency)
    written = await store.fetch_written(connection, book)
    if written:
        _check_repeated(book, written)
        return False
    now = clock.now()
    last = await store.fetch_last(connection, book.currency)
    if last is not None:
        if book.effective_from <= max(last.effective_from, now):
            raise BookConflict(
                f"The price book {book.book_id} follows {last.book_id}, so it must take effect later than "
                f"{format_utc(max(last.effective_from, now))}."
            )
        await store.end_book(connection, last.book_id, book.effective_from)
    await store.insert_published(connection, book, now, published_by)
    return True


def _check_repeated(book: PriceBook, written: list[WrittenBook]) -> None:
    """Accept only the repetition of what is published."""
    other = next((known for known in written if known.book_id != book.book_id), None)
    if other is not None:
        raise BookConflict(
            f"Version {book.version} in {book.currency} is the price book {other.book_id} already."
        )
    known = written[0]
    if not known.published:
        raise BookConflict(f"The price book {book.book_id} exists as a draft; publish or discard that first.")
    ends_otherwise = book.effective_to is not None and book.effective_to != known.effective_to
    if known.content_sha256 != book.content_sha256 or ends_otherwise:
        raise BookConflict(
            f"The price book {book.book_id} is published with other content, and published prices never change; "
            "write a new book with the next version and a later effective_from."
        )


class BookCache:
    """Published books by id: they never change, so what was read once stays true.

    Only the end of a book may be set later, and a cost does not depend on it.
    """

    def __init__(self) -> None:
        self._books: dict[str, PriceBook] = {}
        self._reading = asyncio.Lock()

    async def get(self, db: Db, book_id: str) -> PriceBook:
        """Return a published book; ``BookNotFound`` if there is none with this id."""
        book = self._books.get(book_id)
        if book is not None:
            return book
        async with self._reading:
            book = self._books.get(book_id) or await load_book(db, book_id)
            while len(self._books) >= BOOKS_KEPT_MAX:
                del self._books[next(iter(self._books))]
            self._books[book_id] = book
            return book
