"""``nusagate audit``: what was done and by whom, and how the other commands keep what they do."""

from datetime import datetime
from typing import Any
from uuid import UUID

import rich_click as click

from gateway.audit import service
from gateway.audit.model import Source
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import MOMENT_TYPE
from gateway.cli.session import CLOCK, connected, operator
from gateway.db.pool import Connection

COLUMNS = ("happened_at", "actor", "action", "account_id", "object_id", "reason")
SHOWN_DEFAULT = 50
SHOWN_MAX = 1_000


async def keep(
    db: Connection,
    action: str,
    *,
    account_id: UUID | None = None,
    object_id: object = None,
    reason: str | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Keep what a command does, in its transaction, under the name of who typed it."""
    await service.record(
        db,
        CLOCK,
        action,
        actor=operator(),
        source=Source.CLI,
        account_id=account_id,
        object_id=object_id,
        reason=reason,
        before=before,
        after=after,
    )


@click.group(epilog="Example: nusagate audit list --action credit")
def audit() -> None:
    """See what was done to keys, money and access."""


@audit.command("list", epilog="Example: nusagate audit list --action credit:grant --since 2026-11-01 --json")
@click.option("--account", "account_id", type=click.UUID, help="Only what was done to this account.")
@click.option("--action", help="Only this action, such as credit:grant, or all on a subject, such as credit.")
@click.option("--since", type=MOMENT_TYPE, help="Only from this moment on.")
@click.option("--limit", type=click.IntRange(1, SHOWN_MAX), default=SHOWN_DEFAULT, show_default=True)
@json_option
def list_(
    *, account_id: UUID | None, action: str | None, since: datetime | None, limit: int, as_json: bool
) -> None:
    """List what was done, newest first: when, by whom, why, and what it was before and after."""
    found = connected(
        lambda db: service.list_events(db, account_id=account_id, action=action, since=since, limit=limit)
    )
    rows = [one if as_json else {name: getattr(one, name) for name in COLUMNS} for one in found]
    emit({"events": rows}, as_json=as_json, note=None if found else "Nothing was done.")
