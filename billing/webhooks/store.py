"""Webhook events in Postgres."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from billing.webhooks.model import Event, Subject, SubjectKind, WaitingEvent
from gateway.db.jsonb import jsonb_text
from gateway.db.pool import Db
from gateway.db.queries import load_queries

QUERIES = load_queries("billing.webhooks")


class FailedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up, as it is shown to an operator."""

    event_id: str
    type: str
    subject_id: str
    received_at: datetime
    attempts: int
    outcome: str | None


async def insert(db: Db, event: Event, now: datetime) -> bool:
    """Keep an event; ``False`` if it came before."""
    inserted = await db.fetchval(
        QUERIES["insert_event"],
        event.event_id,
        event.form,
        event.type,
        event.subject.kind if event.subject else None,
        event.subject.id if event.subject else None,
        event.created_at,
        now,
        jsonb_text(event.payload),
    )
    return inserted is not None


async def claim(db: Db, *, now: datetime, lease_until: datetime, limit: int) -> list[WaitingEvent]:
    """Take events that are due."""
    rows = await db.fetch(QUERIES["claim"], now, lease_until, limit)
    return [
        WaitingEvent(
            event_id=row["event_id"],
            type=row["type"],
            subject=Subject(SubjectKind(row["subject_kind"]), row["subject_id"]),
            attempts=row["attempts"],
        )
        for row in rows
    ]


async def finish(db: Db, events: Sequence[WaitingEvent], outcome: str, now: datetime) -> None:
    """Write down that events were worked off."""
    await db.execute(QUERIES["finish"], [event.event_id for event in events], outcome, now)


async def postpone(db: Db, event: WaitingEvent, *, until: datetime, outcome: str) -> None:
    """Write down why an event waits, and until when."""
    await db.execute(QUERIES["postpone"], event.event_id, until, outcome)


async def give_up(db: Db, event: WaitingEvent, *, outcome: str, now: datetime) -> None:
    """Write down that an event is for an operator."""
    await db.execute(QUERIES["give_up"], event.event_id, outcome, now)


async def count_waiting(db: Db) -> int:
    """Count the events that wait."""
    return int(await db.fetchval(QUERIES["count_waiting"]))


async def list_failed(db: Db, limit: int) -> list[FailedEvent]:
    """Read the events that were given up, oldest first."""
    return [FailedEvent(**row) for row in await db.fetch(QUERIES["list_failed"], limit)]


async def retry_failed(db: Db, event_id: str, now: datetime) -> bool:
    """Let an event be worked off again; ``False`` if it was not given up."""
    return await db.fetchval(QUERIES["retry_failed"], event_id, now) is not None


async def clear(db: Db, *, before: datetime, limit: int) -> int:
    """Forget a page of events of long ago; return how many went."""
    status = await db.execute(QUERIES["clear"], before, limit)
    return int(status.split()[-1])
