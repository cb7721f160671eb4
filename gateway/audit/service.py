"""Keeping what somebody did: in the same transaction as the thing itself, so that neither is there without the other."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from gateway.audit import store
from gateway.audit.model import AuditEvent, Source
from gateway.clock import Clock
from gateway.db.pool import Connection, Db
from gateway.ids import uuid7

ITSELF = "nusagate"


async def record(
    connection: Connection,
    clock: Clock,
    action: str,
    *,
    actor: str,
    source: Source,
    account_id: UUID | None = None,
    object_id: object = None,
    reason: str | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Keep one thing that was done; the caller holds the transaction. ``before`` and ``after`` must hold no secret."""
    await store.insert(
        connection,
        AuditEvent(
            audit_id=uuid7(),
            happened_at=clock.now(),
            actor=actor,
            action=action,
            source=source,
            account_id=account_id,
            object_id=None if object_id is None else str(object_id),
            reason=reason,
            before=_json(before),
            after=_json(after),
        ),
    )


async def record_decision(
    connection: Connection,
    clock: Clock,
    action: str,
    *,
    account_id: UUID,
    object_id: object = None,
    reason: str | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Keep what nobody typed: what followed by itself from what Stripe said, or from time. The caller holds the transaction."""
    await record(
        connection,
        clock,
        action,
        actor=ITSELF,
        source=Source.WORKER,
        account_id=account_id,
        object_id=object_id,
        reason=reason,
        before=before,
        after=after,
    )


async def list_events(
    db: Db, *, account_id: UUID | None, action: str | None, since: datetime | None, limit: int
) -> list[AuditEvent]:
    """Read what was done, newest first; ``action`` is a whole action, or a subject and every action on it."""
    return await store.list_events(db, account_id=account_id, action=action, since=since, limit=limit)


def _json(document: Any) -> msgspec.Raw | None:
    return None if document is None else msgspec.Raw(msgspec.json.encode(document))
