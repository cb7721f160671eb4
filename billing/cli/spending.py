"""``nusagate cap`` and ``credit``: what an account may spend, and what it has paid in advance."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from billing.caps import service as caps
from billing.caps.model import CapView, SpendCap
from billing.cli.parameters import AMOUNT_TYPE, reason_text
from billing.credit import service as journal
from billing.credit.model import CreditView, Side, Transfer
from billing.settings import StripeLimits
from gateway.accounts import service as accounts
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import account_option
from gateway.cli.session import CLOCK, command_environment, connected, operator, transacted
from gateway.db.pool import Connection
from gateway.ids import uuid7
from gateway.plans.model import LIMIT_MAX
from gateway.runtime.settings import read_limits
from gateway.units import PICO_PER_MICRO


@click.group(epilog="Example: nusagate cap show --account 0198c0de-0000-7000-8000-000000000000")
def cap() -> None:
    """Cap what an account that pays by use may spend in a month."""


@cap.command(
    "set", epilog="Example: nusagate cap set --account 0198c0de-0000-7000-8000-000000000000 --amount 50000"
)
@account_option
@click.option("--tokens", "monthly_tokens", type=click.IntRange(0, LIMIT_MAX), help="Tokens a month.")
@click.option("--amount", "monthly_micro", type=AMOUNT_TYPE, help="Money a month, in the account's currency.")
@json_option
def set_(*, account_id: UUID, monthly_tokens: int | None, monthly_micro: int | None, as_json: bool) -> None:
    """Cap an account, by tokens, by money, or by both; this replaces its cap."""
    wanted = SpendCap(monthly_tokens=monthly_tokens, monthly_micro=monthly_micro)

    async def work(db: Connection) -> CapView:
        before = await caps.find_cap(db, CLOCK, account_id)
        found = await caps.set_cap(db, CLOCK, account_id, wanted)
        await keep(db, "cap:set", account_id=account_id, before=before, after=wanted)
        return found

    emit(msgspec.to_builtins(transacted(work)), as_json=as_json)


@cap.command("show", epilog="Example: nusagate cap show --account 0198c0de-0000-7000-8000-000000000000")
@account_option
@json_option
def show_cap(*, account_id: UUID, as_json: bool) -> None:
    """Show a cap, and what is used of it."""
    emit(msgspec.to_builtins(connected(lambda db: caps.show(db, CLOCK, account_id))), as_json=as_json)


@cap.command("remove", epilog="Example: nusagate cap remove --account 0198c0de-0000-7000-8000-000000000000")
@account_option
@json_option
def remove_cap(*, account_id: UUID, as_json: bool) -> None:
    """Take a cap away."""

    async def work(db: Connection) -> None:
        before = await caps.find_cap(db, CLOCK, account_id)
        await caps.remove_cap(db, CLOCK, account_id)
        await keep(db, "cap:remove", account_id=account_id, before=before)

    transacted(work)
    emit({"account_id": account_id, "capped": False}, as_json=as_json)


@click.group(epilog="Example: nusagate credit show --account 0198c0de-0000-7000-8000-000000000000")
def credit() -> None:
    """Look at credit that was paid in advance, grant some, and take some back."""


@credit.command("show", epilog="Example: nusagate credit show --account 0198c0de-0000-7000-8000-000000000000")
@account_option
@json_option
def show_credit(*, account_id: UUID, as_json: bool) -> None:
    """Show what an account has left, and its latest entries."""
    emit(_shown(connected(lambda db: journal.show(db, CLOCK, account_id))), as_json=as_json)


@credit.command(
    epilog='Example: nusagate credit grant --account 0198c0de-0000-7000-8000-000000000000 --amount 50000 --reason "sorry"'
)
@account_option
@click.option("--amount", "amount_micro", type=AMOUNT_TYPE, required=True)
@click.option("--reason", required=True, help="Why; the owner sees it.")
@json_option
def grant(*, account_id: UUID, amount_micro: int, reason: str, as_json: bool) -> None:
    """Give an account credit."""
    _move(account_id, Side.GRANTED, amount_micro, reason, as_json=as_json)


@credit.command(
    "take-back",
    epilog='Example: nusagate credit take-back --account 0198c0de-0000-7000-8000-000000000000 --amount 50000 --reason "refunded"',
)
@account_option
@click.option("--amount", "amount_micro", type=AMOUNT_TYPE, required=True)
@click.option("--reason", required=True, help="Why; the owner sees it.")
@json_option
def take_back(*, account_id: UUID, amount_micro: int, reason: str, as_json: bool) -> None:
    """Take credit back that is not used, because its payment was refunded or lost in a dispute."""
    _move(account_id, Side.TAKEN_BACK, -amount_micro, reason, as_json=as_json)


def _move(account_id: UUID, side: Side, amount_micro: int, reason: str, *, as_json: bool) -> None:
    why = reason_text(reason)
    grace = timedelta(days=read_limits(command_environment(), StripeLimits).payment_grace_days)

    async def work(db: Connection) -> CreditView:
        account = await accounts.get(db, account_id)
        transfer = Transfer(
            key=f"{side}:{uuid7()}",
            owner_id=account_id,
            currency=account.currency,
            side=side,
            amount_pico=amount_micro * PICO_PER_MICRO,
            reason=why,
            actor=operator(),
        )
        await journal.credit(db, CLOCK, transfer, grace)
        view = await journal.show(db, CLOCK, account_id)
        await keep(
            db,
            "credit:grant" if side is Side.GRANTED else "credit:take_back",
            account_id=account_id,
            object_id=transfer.key,
            reason=why,
            after={"amount_pico": transfer.amount_pico, "balance": view.balance},
        )
        return view

    emit(_shown(transacted(work)), as_json=as_json)


def _shown(view: CreditView) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(view)
    return document
