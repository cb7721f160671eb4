"""Sessions: opaque tokens, kept as their hash, over when idle, when old, and when their owner says so."""

from datetime import timedelta
from uuid import UUID

from admin.access import store
from admin.access.door import AGENT_LENGTH_MAX, Caller, Door
from admin.access.keyring import new_token, token_digest
from admin.access.model import Person, Session, Stage
from gateway.db.pool import Db
from gateway.ids import uuid7

SECOND_FACTOR_MINUTES = 10
TOUCH_EVERY = timedelta(minutes=5)


async def open_session(door: Door, db: Db, person: Person, caller: Caller, stage: Stage) -> str:
    """Write a session and return its token, which is never the one that the browser had before."""
    now = door.clock.now()
    token = new_token()
    lifetime = (
        timedelta(hours=door.limits.session_hours)
        if stage is Stage.OPEN
        else timedelta(minutes=SECOND_FACTOR_MINUTES)
    )
    await store.insert_session(
        db,
        store.NewSession(
            session_id=uuid7(),
            token_digest=token_digest(token),
            person_id=person.person_id,
            stage=stage,
            network=caller.network,
            agent=caller.agent[:AGENT_LENGTH_MAX],
            created_at=now,
            expires_at=now + lifetime,
        ),
    )
    return token


async def find_session(door: Door, db: Db, token: str) -> Session | None:
    """Return the session of a token unless it is over, and note that it was used."""
    now = door.clock.now()
    session = await store.find_session(db, token_digest(token), now=now, seen_after=now - _idle(door))
    if session is not None and now - session.seen_at >= TOUCH_EVERY:
        await store.touch_session(db, session.session_id, now)
    return session


async def list_sessions(door: Door, db: Db, person: Person) -> list[Session]:
    """Return the browsers that somebody is inside with, the latest first."""
    now = door.clock.now()
    return await store.list_sessions(db, person.person_id, now=now, seen_after=now - _idle(door))


async def end_session(door: Door, db: Db, person: Person, session_id: UUID) -> bool:
    """End one session of somebody; ``False`` if it is not theirs or over already."""
    return await store.end_session(db, session_id, person.person_id, door.clock.now())


async def end_others(door: Door, db: Db, session: Session) -> None:
    """End every session of somebody but this one."""
    await store.end_sessions(db, session.person.person_id, door.clock.now(), but=session.session_id)


async def end_all(door: Door, db: Db, person_id: UUID) -> None:
    """End every session of somebody."""
    await store.end_sessions(db, person_id, door.clock.now(), but=None)


def is_confirmed(door: Door, session: Session) -> bool:
    """Tell whether somebody proved who they are lately enough for keys and money."""
    return door.clock.now() - session.confirmed_at < timedelta(minutes=door.limits.confirmed_minutes)


def _idle(door: Door) -> timedelta:
    return timedelta(hours=door.limits.session_idle_hours)
