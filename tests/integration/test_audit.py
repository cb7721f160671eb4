"""What operators did stays what it was, and is there only if the thing itself is."""

import asyncpg
import pytest

from gateway.audit import service
from gateway.audit.model import Source
from gateway.ledger.service import verify

APPEND_ONLY = "I13 the ledger is append-only"


@pytest.fixture
async def kept(seeded, clock):
    async with seeded.acquire() as connection, connection.transaction():
        await service.record(
            connection, clock, "plan:change", actor="dewi", source=Source.PORTAL, after={"a": 1}
        )
    return seeded


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_event SET actor = 'nobody'", "DELETE FROM audit_event", "TRUNCATE audit_event"],
)
async def test_nothing_is_changed_or_taken_away(kept, statement):
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await kept.execute(statement)
    (event,) = await service.list_events(kept, account_id=None, action="plan", since=None, limit=10)
    assert (event.actor, event.source, bytes(event.after)) == ("dewi", Source.PORTAL, b'{"a": 1}')


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only",
        "DROP TRIGGER audit_event_no_truncate ON audit_event",
        "GRANT UPDATE ON audit_event TO PUBLIC",
        "GRANT DELETE ON ledger_entry TO PUBLIC",
    ],
)
async def test_the_check_convicts_a_guard_that_is_gone_and_a_grant_that_is_there(kept, statement):
    async with kept.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement)
        broken = [check.invariant for check in await verify(connection) if not check.ok]
        await transaction.rollback()
    assert broken == [APPEND_ONLY]


async def test_an_action_has_a_subject_and_a_verb(kept, clock):
    with pytest.raises(asyncpg.CheckViolationError):
        await service.record(kept, clock, "changed", actor="dewi", source=Source.CLI)
