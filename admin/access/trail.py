"""Keeping what somebody does in the portal to keys, money and access, in the transaction of the thing itself.

Who did it is named by an id: an address would stay in the trail for good, and closing an account takes it away.
"""

from typing import Any

from admin.access.model import Person
from gateway.audit import service as audit
from gateway.audit.model import Source
from gateway.clock import Clock
from gateway.db.pool import Connection


async def keep(
    connection: Connection,
    clock: Clock,
    person: Person,
    action: str,
    *,
    object_id: object = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Keep one thing that somebody did to their account; ``before`` and ``after`` must hold no secret."""
    await audit.record(
        connection,
        clock,
        action,
        actor=f"person:{person.person_id}",
        source=Source.PORTAL,
        account_id=person.account_id,
        object_id=object_id,
        before=before,
        after=after,
    )
