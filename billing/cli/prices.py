"""What billing adds to ``nusagate price``: drafting, publishing, and correcting what was charged wrongly."""

from pathlib import Path
from uuid import UUID

import msgspec
import rich_click as click

from billing.books import service
from billing.books.model import Review
from billing.books.store import Scope
from billing.cli.session import operator
from gateway.cli.output import emit, json_option
from gateway.cli.seeding import load_seed
from gateway.cli.session import CLOCK, command_environment, transacted
from gateway.clock import Month, month_start
from gateway.db.pool import Connection
from gateway.errors import InvalidValue
from gateway.prices.model import PriceBook
from gateway.runtime.settings import load_settings
from gateway.upstream.catalogue import load_catalogue

REASON_MAX = 500

book_argument = click.argument("book_id", metavar="BOOK")


@click.command(epilog="Example: nusagate price draft --file prices-2027.toml")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="A TOML file with price books, written like the one that `nusagate seed` reads.",
)
@json_option
def draft(*, path: Path, as_json: bool) -> None:
    """Write drafts of price books, in the place of older drafts, and show whom they would affect."""
    books, models = load_seed([path]).price_books, _models()
    if not books:
        raise InvalidValue(f"There is no price book in {path}.", param="file")

    async def write(db: Connection) -> list[Review]:
        return [await service.draft(db, CLOCK, book, models) for book in books]

    emit({"drafts": msgspec.to_builtins(transacted(write))}, as_json=as_json)


@click.command(epilog="Example: nusagate price review idr-2")
@book_argument
@json_option
def review(*, book_id: str, as_json: bool) -> None:
    """Show what a draft would change, and what the last 30 days would have cost by it."""
    models = _models()
    found = transacted(lambda db: service.review(db, CLOCK, book_id, models))
    emit(msgspec.to_builtins(found), as_json=as_json)


@click.command(epilog="Example: nusagate price publish idr-2")
@book_argument
@json_option
def publish(*, book_id: str, as_json: bool) -> None:
    """Publish a draft: from then on it never changes, and it holds from its own moment on."""
    models = _models()
    book: PriceBook = transacted(lambda db: service.publish(db, CLOCK, book_id, models, actor=operator()))
    emit(
        {
            "price_book": book.book_id,
            "currency": book.currency,
            "version": book.version,
            "effective_from": msgspec.to_builtins(book.effective_from),
        },
        as_json=as_json,
    )


@click.command(epilog="Example: nusagate price discard idr-2")
@book_argument
@json_option
def discard(*, book_id: str, as_json: bool) -> None:
    """Forget a draft."""
    transacted(lambda db: service.discard(db, book_id))
    emit({"discarded": book_id}, as_json=as_json)


@click.command(
    epilog='Example: nusagate price recalculate --book idr-2 --period 2026-11 --reason "wrong rate in idr-1" --apply'
)
@click.option("--book", "book_id", required=True, help="The published price book to reprice by.")
@click.option("--period", required=True, help="The month whose usage is repriced, as YYYY-MM.")
@click.option("--model", help="Only this model.")
@click.option("--account", "account_id", type=click.UUID, help="Only this account.")
@click.option("--reason", required=True, help="Why; it is kept on every correcting entry.")
@click.option("--apply", "apply_", is_flag=True, help="Write the corrections; without it nothing is written.")
@json_option
def recalculate(
    *,
    book_id: str,
    period: str,
    model: str | None,
    account_id: UUID | None,
    reason: str,
    apply_: bool,
    as_json: bool,
) -> None:
    """Reprice a month: what differs is reversed and booked again in the current month."""
    if not 1 <= len(reason.strip()) <= REASON_MAX:
        raise InvalidValue(f"--reason must have 1 to {REASON_MAX} characters.", param="reason")
    scope = Scope(book_id=book_id, period=_month(period), model=model, account_id=account_id)
    found = transacted(
        lambda db: service.recalculate(
            db, CLOCK, scope, reason=reason.strip(), actor=operator(), apply=apply_
        )
    )
    note = None if apply_ else "This was a dry run: nothing is written without --apply."
    emit(msgspec.to_builtins(found), as_json=as_json, note=note)


def _models() -> frozenset[str]:
    """Name the models of the catalogue."""
    environ = command_environment()
    return frozenset(load_catalogue(load_settings(environ).config_path, environ).models)


def _month(period: str) -> Month:
    try:
        month_start(Month(period))
    except ValueError:
        raise InvalidValue(f"--period must look like 2026-11, not {period!r}.", param="period") from None
    return Month(period)
