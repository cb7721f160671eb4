"""Managing price books: a draft shows whom it affects before it is published.

What was charged wrongly is corrected by entries in the current month, after a dry run, never by an edit.
"""

from collections.abc import Collection
from datetime import timedelta

from billing.books import store
from billing.books.model import (
    Correction,
    Impact,
    ModelsNotPriced,
    Recalculation,
    Review,
    rate_changes,
    unpriced,
)
from billing.books.store import ModelUsage, Scope
from gateway.clock import Clock, month_of
from gateway.db.pool import Connection, Db
from gateway.prices import service as prices
from gateway.prices.model import BookConflict, BookNotFound, ModelNotPriced, PriceBook, cost
from gateway.prices.store import fetch_written, insert_draft
from gateway.rollup import service as rollup
from gateway.units import AmountPico, format_amount

IMPACT_OF = timedelta(days=30)


async def draft(connection: Connection, clock: Clock, book: PriceBook, models: Collection[str]) -> Review:
    """Write a draft, in the place of one with the same id, and show whom it would affect.

    ``models`` are those of the catalogue. The caller holds the transaction. ``BookConflict`` if the id or the version
    belongs to a published book, or the version to another draft.
    """
    if await store.fetch_draft(connection, book.book_id) is not None:
        await store.delete_draft(connection, book.book_id)
    for known in await fetch_written(connection, book):
        raise BookConflict(
            f"Version {book.version} in {book.currency} is the price book {known.book_id} already, "
            "and what is published never changes: write a new book with the next version."
        )
    await insert_draft(connection, book)
    return await review(connection, clock, book.book_id, models)


async def review(db: Db, clock: Clock, book_id: str, models: Collection[str]) -> Review:
    """Show what a draft changes, and whom; ``BookNotFound`` if there is no such draft."""
    book = await _draft(db, book_id)
    now = clock.now()
    current = next(iter(await prices.books_at(db, now, book.currency)), None)
    usage = await store.usage_by_model_since(db, book.currency, now - IMPACT_OF)
    return Review(
        book_id=book.book_id,
        currency=book.currency,
        version=book.version,
        effective_from=book.effective_from,
        follows=current.book_id if current else None,
        unpriced_models=unpriced(book, models),
        accounts_in_currency=await store.somebody_pays_in(db, book.currency),
        changes=rate_changes(current, book),
        impact=tuple(_impact(book, used) for used in usage if used.model in book.rates),
    )


async def publish(
    connection: Connection, clock: Clock, book_id: str, models: Collection[str], *, actor: str
) -> PriceBook:
    """Publish a draft; from then on it never changes. The caller holds the transaction.

    ``BookNotFound``, ``ModelsNotPriced`` where a model of the catalogue has no price and somebody pays in the
    currency, ``BookConflict`` where the book does not follow the one before it.
    """
    book = await _draft(connection, book_id)
    missing = unpriced(book, models)
    if missing and await store.somebody_pays_in(connection, book.currency):
        raise ModelsNotPriced(
            f"The price book {book_id} has no price for {', '.join(missing)}, and accounts pay in {book.currency}."
        )
    await store.delete_draft(connection, book_id)
    await prices.publish(connection, clock, book, published_by=actor)
    return book


async def discard(connection: Connection, book_id: str) -> None:
    """Forget a draft; ``BookNotFound`` if there is none. The caller holds the transaction."""
    await _draft(connection, book_id)
    await store.delete_draft(connection, book_id)


async def recalculate(
    connection: Connection, clock: Clock, scope: Scope, *, reason: str, actor: str, apply: bool
) -> Recalculation:
    """Reprice the usage of a month by a published book, as a dry run unless ``apply``.

    Each entry whose price differs is reversed and booked again in the current month; doing it twice changes nothing.
    The caller holds the transaction. ``BookNotFound``, or ``ModelNotPriced`` where the book lacks a model.
    """
    book = await prices.load_book(connection, scope.book_id)
    missing = await store.models_without_rate(connection, scope)
    if missing:
        raise ModelNotPriced(f"The price book {scope.book_id} has no price for {', '.join(missing)}.")
    now = clock.now()
    found = await store.repriced(connection, scope, month_of(now))
    if apply and found:
        await store.lock_gates(connection, [one.account_id for one in found])
        found = await store.repriced(connection, scope, month_of(now))
        await store.correct(connection, scope, now=now, period=month_of(now), reason=reason, actor=actor)
        await rollup.follow(connection, [one.account_id for one in found], now)
    return Recalculation(
        applied=apply,
        price_book=scope.book_id,
        period=scope.period,
        currency=book.currency,
        corrections=tuple(_correction(one) for one in found),
    )


async def _draft(db: Db, book_id: str) -> PriceBook:
    book = await store.fetch_draft(db, book_id)
    if book is None:
        raise BookNotFound(f"There is no draft of a price book {book_id!r}.", param="book")
    return book


def _impact(book: PriceBook, used: ModelUsage) -> Impact:
    return Impact(
        model=used.model,
        accounts=used.accounts,
        requests=used.requests,
        amount_before=format_amount(AmountPico(used.amount_pico)),
        amount_after=format_amount(cost(book, used.model, used.counts)),
    )


def _correction(one: store.Repriced) -> Correction:
    return Correction(
        account_id=one.account_id,
        entries=one.entries,
        amount_before=format_amount(AmountPico(one.amount_before)),
        amount_after=format_amount(AmountPico(one.amount_after)),
        difference=format_amount(AmountPico(one.amount_after - one.amount_before)),
        beyond_bill=format_amount(AmountPico(one.beyond_bill)),
    )
