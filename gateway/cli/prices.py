"""``nusagate price``: the price books."""

from datetime import datetime
from typing import Any

import rich_click as click

from gateway.cli.output import emit, json_option
from gateway.cli.parameters import CURRENCY_TYPE, MOMENT_TYPE
from gateway.cli.session import CLOCK, transacted
from gateway.clock import format_utc
from gateway.prices import service
from gateway.prices.model import PriceBook
from gateway.units import Currency


@click.group(epilog="Example: nusagate price show --currency idr")
def price() -> None:
    """Look at the price books."""


@price.command(epilog="Example: nusagate price show --currency idr --at 2026-12-01")
@click.option("--currency", type=CURRENCY_TYPE, help="Only this currency.")
@click.option("--at", type=MOMENT_TYPE, help="What holds at this moment; now without it.")
@json_option
def show(*, currency: str | None, at: datetime | None, as_json: bool) -> None:
    """Show what tokens cost, in micro-currency for a million tokens."""
    moment = at or CLOCK.now()
    books = transacted(lambda db: service.books_at(db, moment, Currency(currency) if currency else None))
    emit({"at": format_utc(moment), "price_books": [_document(book) for book in books]}, as_json=as_json)


def _document(book: PriceBook) -> dict[str, Any]:
    return {
        "price_book": book.book_id,
        "currency": book.currency,
        "version": book.version,
        "effective_from": format_utc(book.effective_from),
        "effective_to": None if book.effective_to is None else format_utc(book.effective_to),
        "micro_per_mtok": {model: rates.given() for model, rates in book.rates.items()},
    }
