"""What billing adds to ``nusagate price``: drafting, publishing, and correcting what was charged wrongly."""

from pathlib import Path
from uuid import UUID

import msgspec
import rich_click as click

from billing.books import service
from billing.books.model import Recalculation, Review
from billing.books.store import Scope
from billing.cli.parameters import DRY_RUN, reason_text
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import MONTH_TYPE
from gateway.cli.seeding import load_seed
from gateway.cli.session import CLOCK, command_environment, operator, transacted
from gateway.clock import Month
from gateway.db.pool import Connection
from gateway.errors import InvalidValue
from gateway.prices.model import PriceBook
from gateway.runtime.settings import load_settings
from gateway.upstream.catalogue import load_catalogue

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

    async def work(db: Connection) -> PriceBook:
        published = await service.publish(db, CLOCK, book_id, models, actor=operator())
        after = {"currency": published.currency, "effective_from": published.effective_from}
        await keep(db, "price_book:publish", object_id=book_id, after=after)
        return published

    book = transacted(work)
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
@click.option("--period", type=MONTH_TYPE, required=True, help="The month whose usage is repriced.")
@click.option("--model", help="Only this model.")
@click.option("--account", "account_id", type=click.UUID, help="Only this account.")
@click.option("--reason", required=True, help="Why; it is kept on every correcting entry.")
@click.option("--apply", "apply_", is_flag=True, help="Write the corrections; without it nothing is written.")
@json_option
def recalculate(
    *,
    book_id: str,
    period: Month,
    model: str | None,
    account_id: UUID | None,
    reason: str,
    apply_: bool,
    as_json: bool,
) -> None:
    """Reprice a month: what differs is reversed and booked again in the current month."""
    why = reason_text(reason)
    scope = Scope(book_id=book_id, period=period, model=model, account_id=account_id)

    async def work(db: Connection) -> Recalculation:
        done = await service.recalculate(db, CLOCK, scope, reason=why, actor=operator(), apply=apply_)
        for one in done.corrections if apply_ else ():
            await keep(
                db,
                "usage:recalculate",
                account_id=one.account_id,
                object_id=book_id,
                reason=why,
                before={"period": period, "amount": one.amount_before},
                after={"period": period, "amount": one.amount_after},
            )
        return done

    note = None if apply_ else DRY_RUN
    emit(msgspec.to_builtins(transacted(work)), as_json=as_json, note=note)


def _models() -> frozenset[str]:
    """Name the models of the catalogue."""
    environ = command_environment()
    return frozenset(load_catalogue(load_settings(environ).config_path, environ).models)
