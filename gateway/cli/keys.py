"""``nusagate key``: making, listing, rotating and revoking API keys."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import rich_click as click

from gateway.accounts import service as accounts
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import DURATION_TYPE, NAMES_TYPE
from gateway.cli.session import CLOCK, command_peppers, transacted
from gateway.clock import format_utc
from gateway.db.pool import Connection
from gateway.keys import service
from gateway.keys.model import ApiKey, Endpoint, KeyScopes, NewKey
from gateway.plans.model import LIMIT_MAX

SHOWN_ONCE = "Keep the key now: it is shown this once and cannot be read again."

ONE_SECOND = timedelta(seconds=1)

key_argument = click.argument("key_id", metavar="KEY_ID", type=click.UUID)


@click.group(
    epilog="Example: nusagate key create --account 0198c0de-0000-7000-8000-000000000000 --name laptop"
)
def key() -> None:
    """Create, list, rotate and revoke API keys."""


@key.command(
    epilog="Example: nusagate key create --account 0198c0de-0000-7000-8000-000000000000 --name ci --expires-in 30d"
)
@click.option(
    "--account", "account_id", type=click.UUID, required=True, help="The account that it belongs to."
)
@click.option("--name", default="default", show_default=True, help="What to recognise it by.")
@click.option(
    "--expires-in", type=DURATION_TYPE, help="How long it works, such as 12h or 30d; for ever without."
)
@click.option("--monthly-tokens", type=click.IntRange(0, LIMIT_MAX), help="A monthly cap for this key alone.")
@click.option("--models", type=NAMES_TYPE, help="The only models that it may use.")
@click.option(
    "--endpoints", type=NAMES_TYPE, help=f"The only endpoints that it may use, of {', '.join(Endpoint)}."
)
@click.option(
    "--allow-ip", "ip_ranges", multiple=True, metavar="CIDR", help="Where it may be used; may be repeated."
)
@json_option
def create(*, account_id: UUID, expires_in: timedelta | None, as_json: bool, **scopes: Any) -> None:
    """Create a key and show it, this once."""
    now = CLOCK.now()
    chosen = KeyScopes(
        name=scopes["name"],
        expires_at=None if expires_in is None else _moment_after(now, expires_in),
        monthly_tokens=scopes["monthly_tokens"],
        models=scopes["models"],
        endpoints=scopes["endpoints"],
        ip_ranges=scopes["ip_ranges"] or None,
    )
    peppers = command_peppers()

    async def work(db: Connection) -> NewKey:
        new = await service.create_key(db, CLOCK, peppers, account_id=account_id, scopes=chosen)
        await keep(db, "key:create", account_id=account_id, object_id=new.key_id, after=chosen)
        return new

    made = transacted(work)
    _show_new(made, as_json=as_json)


@key.command("list", epilog="Example: nusagate key list --account 0198c0de-0000-7000-8000-000000000000")
@click.option(
    "--account", "account_id", type=click.UUID, required=True, help="The account that they belong to."
)
@json_option
def list_(*, account_id: UUID, as_json: bool) -> None:
    """List the keys of an account, newest first; revoked ones stay listed."""

    async def read(db: Connection) -> list[ApiKey]:
        await accounts.get(db, account_id)
        return await service.list_keys(db, account_id)

    now = CLOCK.now()
    documents = [_document(one, now) for one in transacted(read)]
    columns = ("key_id", "name", "prefix", "last4", "status", "created_at", "expires_at", "last_used_at")
    if not as_json:
        documents = [{name: document[name] for name in columns} for document in documents]
    emit({"keys": documents}, as_json=as_json)


@key.command(epilog="Example: nusagate key revoke 0198c0de-0000-7000-8000-000000000000")
@key_argument
@json_option
def revoke(*, key_id: UUID, as_json: bool) -> None:
    """Stop a key for good, within a second everywhere."""

    async def work(db: Connection) -> ApiKey:
        stopped = await service.revoke_key(db, CLOCK, key_id, account_id=None)
        await keep(db, "key:revoke", account_id=stopped.account_id, object_id=key_id)
        return stopped

    emit(_document(transacted(work), CLOCK.now()), as_json=as_json)


@key.command(epilog="Example: nusagate key rotate 0198c0de-0000-7000-8000-000000000000 --grace 1h")
@key_argument
@click.option(
    "--grace",
    type=DURATION_TYPE,
    default="now",
    show_default=True,
    help="How long the old key works on: 15m, 1h, 24h.",
)
@json_option
def rotate(*, key_id: UUID, grace: timedelta, as_json: bool) -> None:
    """Replace a key by a new one with the same scopes, and show that, this once."""
    peppers = command_peppers()

    async def work(db: Connection) -> NewKey:
        new = await service.rotate_key(db, CLOCK, peppers, key_id, account_id=None, grace=grace)
        await keep(
            db,
            "key:rotate",
            account_id=new.account_id,
            object_id=key_id,
            after={"replaced_by": new.key_id, "grace_s": grace // ONE_SECOND},
        )
        return new

    made = transacted(work)
    _show_new(made, as_json=as_json)


def _moment_after(now: datetime, length: timedelta) -> datetime:
    try:
        return now + length
    except OverflowError:
        raise click.UsageError("A key cannot live that long.") from None


def _show_new(made: NewKey, *, as_json: bool) -> None:
    emit({"key_id": str(made.key_id), "key": made.text}, as_json=as_json, note=SHOWN_ONCE)


def _document(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "key_id": str(key.key_id),
        "account_id": str(key.account_id),
        "name": key.scopes.name,
        "prefix": key.prefix,
        "last4": key.last4,
        "status": key.status(now),
        "monthly_tokens": key.scopes.monthly_tokens,
        "models": key.scopes.models,
        "endpoints": key.scopes.endpoints,
        "ip_ranges": key.scopes.ip_ranges,
        "created_at": format_utc(key.created_at),
        "expires_at": _utc(key.scopes.expires_at),
        "revoked_at": _utc(key.revoked_at),
        "replaced_by": None if key.replaced_by is None else str(key.replaced_by),
        "last_used_at": _utc(key.last_used_at),
        "last_used_model": key.last_used_model,
    }


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else format_utc(moment)
