"""``nusagate quota``, ``ledger`` and ``usage``: what was used, and the proof that it was counted right."""

import csv
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import rich_click as click

from gateway.accounts import service as accounts
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import MOMENT_TYPE, MONTH_TYPE, account_option
from gateway.cli.session import command_environment, connected
from gateway.clock import Month, month_of, month_start
from gateway.db.pool import Connection
from gateway.ledger import store as ledger_store
from gateway.ledger.model import Entry
from gateway.quota import service as quota_service
from gateway.quota.redis_server import engine_in_force
from gateway.refusals import store as refusal_store
from gateway.runtime.settings import load_limits, read_redis_url


@click.group(epilog="Example: nusagate quota show --account 0198c0de-0000-7000-8000-000000000000")
def quota() -> None:
    """Look at limits."""


@quota.command(
    "show", epilog="Example: nusagate quota show --account 0198c0de-0000-7000-8000-000000000000 --json"
)
@account_option
@json_option
def show_quota(*, account_id: UUID, as_json: bool) -> None:
    """Show what an account has used and holds this month, and the engine that decides its limits now."""

    async def read(db: Connection) -> object:
        account = await accounts.get(db, account_id)
        environ = command_environment()
        engine = await engine_in_force(read_redis_url(environ), load_limits(environ))
        return await quota_service.show(
            db, account_id, account.limits.monthly_tokens, now=None, engine=engine
        )

    emit(msgspec.to_builtins(connected(read)), as_json=as_json)


@click.group(epilog="Example: nusagate ledger export --period 2026-11")
def ledger() -> None:
    """Export the ledger, and prove it."""


@ledger.command(epilog="Example: nusagate ledger export --period 2026-11 --format csv")
@click.option("--account", "account_id", type=click.UUID, help="Only this account.")
@click.option("--period", type=MONTH_TYPE, help="Only this month.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--json", "_json", is_flag=True, help="The same as --format jsonl.")
def export(*, account_id: UUID | None, period: Month | None, form: str, _json: bool) -> None:
    """Write one entry a line, in the order of admission."""
    write = _csv_writer() if form == "csv" else _write_json_line

    async def read(db: Connection) -> None:
        await _write_all(ledger_store.export(db, account_id=account_id, period=period), write)

    connected(read)


@click.group(epilog="Example: nusagate usage show --account 0198c0de-0000-7000-8000-000000000000 --by day")
def usage() -> None:
    """Look at usage, with the same numbers as the API."""


@usage.command(
    "show", epilog="Example: nusagate usage show --account 0198c0de-0000-7000-8000-000000000000 --by key"
)
@account_option
@click.option("--by", type=click.Choice(ledger_store.USAGE_GROUPS), default="model", show_default=True)
@click.option("--start", type=MOMENT_TYPE, help="From this moment on; this month's first by default.")
@click.option("--end", type=MOMENT_TYPE, help="Before this moment; now by default.")
@json_option
def show_usage(
    *, account_id: UUID, by: str, start: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """Sum an account's usage."""

    async def read(db: Connection) -> object:
        await accounts.get(db, account_id)
        now = await quota_service.now(db)
        first = start or month_start(month_of(now))
        last = end or now + timedelta(seconds=1)
        return {
            "usage": await ledger_store.usage(db, account_id, by, first, last),
            "refused": await refusal_store.by_reason(db, account_id, first, last),
        }

    emit(msgspec.to_builtins(connected(read)), as_json=as_json)


async def _write_all(entries: AsyncIterator[Entry], write: Callable[[Entry], None]) -> None:
    async for entry in entries:
        write(entry)


def _write_json_line(entry: Entry) -> None:
    click.echo(msgspec.json.encode(entry))


def _csv_writer() -> Callable[[Entry], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(field.name for field in msgspec.structs.fields(Entry))
    return lambda entry: writer.writerow(
        msgspec.to_builtins(value) for value in msgspec.structs.astuple(entry)
    )
