"""What was done, in Postgres."""

from datetime import datetime
from uuid import UUID

import msgspec

from gateway.audit.model import AuditEvent, Source
from gateway.db.jsonb import jsonb_text
from gateway.db.pool import Connection, Db
from gateway.db.queries import load_queries

QUERIES = load_queries("gateway.audit")


async def insert(connection: Connection, event: AuditEvent) -> None:
    """Keep one event."""
    await connection.execute(
        QUERIES["insert"],
        event.audit_id,
        event.happened_at,
        event.actor,
        event.action,
        event.source,
        event.account_id,
        event.object_id,
        event.reason,
        _text(event.before),
        _text(event.after),
    )


async def list_events(
    db: Db, *, account_id: UUID | None, action: str | None, since: datetime | None, limit: int
) -> list[AuditEvent]:
    """Read events, newest first."""
    rows = await db.fetch(QUERIES["list_events"], account_id, action, since, limit)
    return [
        AuditEvent(
            **{
                **row,
                "source": Source(row["source"]),
                "before": _raw(row["before"]),
                "after": _raw(row["after"]),
            }
        )
        for row in rows
    ]


def _text(document: msgspec.Raw | None) -> str | None:
    return None if document is None else jsonb_text(bytes(document))


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
