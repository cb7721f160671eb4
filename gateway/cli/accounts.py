"""``nusagate account``: who may use the gateway, on which plan, with which limits."""

from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from gateway.accounts import service
from gateway.accounts.model import Account, AccountStatus, LimitName
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import CURRENCY_TYPE, LIMIT_TYPE, LimitType
from gateway.cli.session import CLOCK, Work, transacted
from gateway.clock import format_utc
from gateway.db.pool import Connection
from gateway.units import Currency

PAGE_DEFAULT = 100
PAGE_MAX = 1_000

account_argument = click.argument("account_id", metavar="ID", type=click.UUID)


@click.group(epilog="Example: nusagate account create --email sari@example.com")
def account() -> None:
    """Create, change and look at accounts."""


@account.command(
    epilog="Example: nusagate account create --email sari@example.com --plan payg --currency idr"
)
@click.option("--email", required=True, help="The address of its owner; no two accounts have the same.")
@click.option("--plan", "plan_id", default="free", show_default=True, help="See: nusagate plan list")
@click.option("--currency", type=CURRENCY_TYPE, default="idr", show_default=True)
@json_option
def create(*, email: str, plan_id: str, currency: str, as_json: bool) -> None:
    """Create an account."""

    async def work(db: Connection) -> Account:
        made = await service.create(db, CLOCK, email=email, plan_id=plan_id, currency=Currency(currency))
        await keep(db, "account:create", account_id=made.account_id, after=_state(made))
        return made

    _answer(work, as_json=as_json)


@account.command(epilog="Example: nusagate account show 0198c0de-0000-7000-8000-000000000000")
@account_argument
@json_option
def show(*, account_id: UUID, as_json: bool) -> None:
    """Show an account and the limits that are in force for it."""
    _answer(lambda db: service.get(db, account_id), as_json=as_json)


@account.command("list", epilog="Example: nusagate account list --limit 50")
@click.option("--limit", type=click.IntRange(1, PAGE_MAX), default=PAGE_DEFAULT, show_default=True)
@click.option("--after", type=click.UUID, help="The last account of the page before.")
@json_option
def list_(*, limit: int, after: UUID | None, as_json: bool) -> None:
    """List accounts, oldest first."""
    found = transacted(lambda db: service.list_accounts(db, after=after, limit=limit))
    columns = ("account_id", "email", "plan", "currency", "status", "created_at")
    documents = [_document(one) for one in found]
    if not as_json:
        documents = [{name: document[name] for name in columns} for document in documents]
    emit({"accounts": documents}, as_json=as_json)


@account.command(
    "set-plan", epilog="Example: nusagate account set-plan 0198c0de-0000-7000-8000-000000000000 pro"
)
@account_argument
@click.argument("plan_id", metavar="PLAN")
@json_option
def set_plan(*, account_id: UUID, plan_id: str, as_json: bool) -> None:
    """Move an account to another plan, at once and with the keys it has."""
    _change(
        account_id, "account:set_plan", lambda db: service.set_plan(db, account_id, plan_id), as_json=as_json
    )


@account.command(epilog="Example: nusagate account suspend 0198c0de-0000-7000-8000-000000000000")
@account_argument
@json_option
def suspend(*, account_id: UUID, as_json: bool) -> None:
    """Stop all keys of an account within a second."""
    _change(
        account_id,
        "account:suspend",
        lambda db: service.set_status(db, account_id, AccountStatus.SUSPENDED),
        as_json=as_json,
    )


@account.command(epilog="Example: nusagate account resume 0198c0de-0000-7000-8000-000000000000")
@account_argument
@json_option
def resume(*, account_id: UUID, as_json: bool) -> None:
    """Let the keys of an account work again."""
    _change(
        account_id,
        "account:resume",
        lambda db: service.set_status(db, account_id, AccountStatus.ACTIVE),
        as_json=as_json,
    )


@account.command(
    "set-limits",
    epilog="Example: nusagate account set-limits 0198c0de-0000-7000-8000-000000000000 --rpm 1000 --monthly-tokens none",
)
@account_argument
@click.option(
    "--monthly-tokens", LimitName.MONTHLY_TOKENS, type=LIMIT_TYPE, help="Tokens a calendar month in UTC."
)
@click.option(
    "--daily-tokens", "--tpd", LimitName.DAILY_TOKENS, type=LIMIT_TYPE, help="Tokens a calendar day in UTC."
)
@click.option("--rpm", LimitName.REQUESTS_PER_MINUTE, type=LIMIT_TYPE, help="Requests a minute.")
@click.option("--tpm", LimitName.TOKENS_PER_MINUTE, type=LIMIT_TYPE, help="Tokens a minute.")
@click.option("--concurrency", LimitName.CONCURRENCY, type=LIMIT_TYPE, help="Requests in progress at once.")
@json_option
def set_limits(*, account_id: UUID, as_json: bool, **limits: int | str | None) -> None:
    """Set limits for one account alone: a number, none for no limit, or plan for what its plan says."""
    given = {LimitName(name): value for name, value in limits.items() if value is not None}
    if not given:
        raise click.UsageError("Name at least one limit to set.")
    overrides = {
        name: value if isinstance(value, int) else None
        for name, value in given.items()
        if value != LimitType.PLAN
    }
    removed = [name for name, value in given.items() if value == LimitType.PLAN]
    _change(
        account_id,
        "account:set_limits",
        lambda db: service.set_limits(db, account_id, overrides=overrides, removed=removed),
        as_json=as_json,
    )


def _change(account_id: UUID, action: str, work: Work[Account], *, as_json: bool) -> None:
    """Change an account, and keep what it was and what it is."""

    async def kept(db: Connection) -> Account:
        before = await service.find(db, account_id)
        # What is wrong with the change is said first, as it is where nothing is kept.
        after = await work(db)
        assert before is not None
        await keep(db, action, account_id=account_id, before=_state(before), after=_state(after))
        return after

    _answer(kept, as_json=as_json)


def _answer(work: Work[Account], *, as_json: bool) -> None:
    emit(_document(transacted(work)), as_json=as_json)


def _state(account: Account) -> dict[str, Any]:
    """Say what operators change of an account."""
    return {"plan": account.plan_id, "status": account.status, "overrides": dict(account.overrides)}


def _document(account: Account) -> dict[str, Any]:
    return {
        "account_id": str(account.account_id),
        "email": account.email,
        "plan": account.plan_id,
        "currency": account.currency,
        "status": account.status,
        "limits": msgspec.structs.asdict(account.limits),
        "overrides": dict(account.overrides),
        "created_at": format_utc(account.created_at),
    }
