"""``nusagate invoice``, ``statement`` and ``period``: what was billed, how it came about, and closing a month."""

from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from billing.cli.parameters import reason_text
from billing.invoices import closing, store
from billing.invoices.model import BilledUsage, Invoice
from billing.invoices.statement import Statement
from billing.invoices.statement_csv import format_minor, rate_text, statement_csv
from billing.invoices.statement_page import statement_page
from billing.invoices.statements import statement_of
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import MONTH_TYPE, account_option
from gateway.cli.session import CLOCK, connected, transacted
from gateway.clock import Month, month_of
from gateway.db.pool import Connection
from gateway.units import AmountPico, Currency, format_amount

SHOWN_DEFAULT = 50
SHOWN_MAX = 1_000
STATUSES = ("draft", "open", "paid", "uncollectible", "void")

limit_option = click.option(
    "--limit", type=click.IntRange(1, SHOWN_MAX), default=SHOWN_DEFAULT, show_default=True
)


@click.group(epilog="Example: nusagate invoice list --status open")
def invoice() -> None:
    """Look at invoices as Stripe has them."""


@invoice.command("list", epilog="Example: nusagate invoice list --status open --json")
@click.option("--account", "account_id", type=click.UUID, help="Only this account's.")
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@limit_option
@json_option
def list_(*, account_id: UUID | None, status: str | None, limit: int, as_json: bool) -> None:
    """List invoices, newest first; amounts in JSON are Stripe's minor units (Rp 1 is 100)."""
    found = connected(lambda db: store.list_invoices(db, account_id=account_id, status=status, limit=limit))
    rows = msgspec.to_builtins(found) if as_json else [_row(one) for one in found]
    emit({"invoices": rows}, as_json=as_json, note=None if found else "No invoices.")


@click.group(
    epilog="Example: nusagate statement show --account 0198c0de-0000-7000-8000-000000000000 --period 2026-11"
)
def statement() -> None:
    """Show how a month's amount came about."""


@statement.command(
    "show",
    epilog="Example: nusagate statement show --account 0198c0de-0000-7000-8000-000000000000 --format html > november.html",
)
@account_option
@click.option("--period", type=MONTH_TYPE, help="This month by default.")
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "html"]), default="text", show_default=True
)
@json_option
def show_statement(*, account_id: UUID, period: Month | None, form: str, as_json: bool) -> None:
    """Show tokens times rate for every model, the plan, and what Stripe bills for it."""
    month = period or month_of(CLOCK.now())
    found = transacted(lambda db: statement_of(db, account_id, month))
    if as_json:
        emit({**msgspec.to_builtins(found), "agrees": found.agrees}, as_json=True)
    elif form == "text":
        emit(_shown(found), as_json=False)
    else:
        click.echo(statement_csv(found) if form == "csv" else statement_page(found), nl=False)


@click.group(epilog="Example: nusagate period close 2026-11")
def period() -> None:
    """Close months, and see what keeps them open."""


@period.command("list", epilog="Example: nusagate period list")
@limit_option
@json_option
def list_periods(*, limit: int, as_json: bool) -> None:
    """List months, newest first."""
    found = connected(lambda db: store.list_periods(db, limit))
    emit({"periods": msgspec.to_builtins(found)}, as_json=as_json, note=None if found else "No months yet.")


@period.command("close", epilog="Example: nusagate period close 2026-11 --json")
@click.argument("month", metavar="YYYY-MM", type=MONTH_TYPE)
@click.option(
    "--accept",
    "accepted",
    type=click.UUID,
    multiple=True,
    help="An account whose invoices differ from its usage for good; again for each.",
)
@click.option("--reason", help="Why that is accepted, and what was done about it; it is kept.")
@json_option
def close(*, month: Month, accepted: tuple[UUID, ...], reason: str | None, as_json: bool) -> int:
    """Let a month move on as far as it can; exit status 1 while it is not closed, and what is in the way."""
    why = reason_text(reason or "") if accepted else None

    async def work(db: Connection) -> closing.Standing:
        before = await store.lock_period(db, month, CLOCK.now())
        for account_id in accepted:
            found = await closing.accept(db, CLOCK, month, account_id)
            await keep(
                db,
                "period:accept",
                account_id=account_id,
                object_id=month,
                reason=why,
                before=_difference(found),
            )
        standing = await closing.advance_in(db, CLOCK, month, accepted)
        if standing.state is not before:
            await keep(
                db, "period:close", object_id=month, before={"state": before}, after={"state": standing.state}
            )
        return standing

    found = transacted(work)
    emit(msgspec.to_builtins(found), as_json=as_json)
    return 1 if found.obstacles else 0


def _difference(found: BilledUsage) -> dict[str, str]:
    return {
        "used": format_amount(AmountPico(found.amount_pico)),
        "billed": format_minor(found.billed_minor, found.currency),
    }


def _row(one: Invoice) -> dict[str, Any]:
    currency = Currency(one.currency)
    return {
        "invoice": one.number or one.invoice_id,
        "account": one.account_id,
        "status": one.status,
        "total": f"{format_minor(one.total, currency)} {currency}",
        "open": f"{format_minor(one.amount_remaining, currency)} {currency}",
        "made": one.created_at,
    }


def _shown(found: Statement) -> dict[str, Any]:
    """Write a statement for a terminal: every product, then the sums."""
    currency = found.currency
    usage = [
        {
            "model": line.model,
            "class": part.token_class.value,
            "tokens": part.tokens,
            "rate per million": rate_text(part.rate_micro_per_mtok),
            "amount": format_amount(part.amount_pico),
            "billed": "yes" if lines is found.billed else "in the plan",
        }
        for lines in (found.billed, found.included)
        for line in lines
        for part in line.tokens
    ]
    return {
        "account": found.account_id,
        "period": found.period,
        "currency": currency,
        "usage": usage,
        "corrections": [
            {"kind": line.kind, "reason": line.reason, "amount": format_amount(line.amount_pico)}
            for line in found.corrections
        ],
        "usage, exact": format_amount(found.usage_pico),
        "paid from credit": format_amount(found.credit_pico),
        "written off": format_amount(found.written_off_pico),
        "usage, billed": format_minor(found.usage_minor, currency),
        "plan": format_minor(found.plan_minor, currency),
        "total": format_minor(found.total_minor, currency),
        "equals the invoice": {None: "not billed yet", True: "yes", False: "NO"}[found.agrees],
    }
