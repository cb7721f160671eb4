"""Making a key for somebody who is inside, and keeping that they did; two pages do it."""

from admin.access import trail
from admin.access.model import Person
from admin.web.parts import Parts
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes, NewKey


async def make_key_of(parts: Parts, person: Person, scopes: KeyScopes) -> NewKey:
    """Make a key of somebody's account; raises as ``keys.create_key`` does."""
    clock = parts.door.clock
    async with parts.db.acquire() as connection, connection.transaction():
        made = await keys.create_key(
            connection, clock, parts.settings.base.peppers, account_id=person.account_id, scopes=scopes
        )
        await trail.keep(connection, clock, person, "key:create", object_id=made.key_id, after=scopes)
    return made
