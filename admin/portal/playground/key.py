"""The key that the playground calls the gateway with: one for each account, short-lived, and never in the browser.

Its text follows from the installation's session secret, the key's id and its end. So no process has to keep it, any
number of portals agree on it, and the database has a digest as of every other key. Every hour it gets a new text and
a new end in the same row, so that an account's list has one line and its usage one name. When somebody revokes or
rotates it, the next use begins a new row.
"""

import hashlib
import itertools
from datetime import datetime, timedelta
from uuid import UUID

from admin.access.keyring import Purpose
from admin.web.parts import Parts
from gateway.clock import format_utc
from gateway.keys import service as keys
from gateway.keys.model import ApiKey, Endpoint, KeyScopes
from gateway.keys.text import derive_key

NAME = "Playground"
LIFE = timedelta(hours=2)
"""From the beginning of an hour, so that a text is good for at least one more."""

NEXT_TEXT = timedelta(hours=1)
VERSION_8 = 8
"""The version of ids that are computed; all other ids are random ones of version 7."""

VARIANT_RFC = 0b10


def is_playgrounds(key: ApiKey) -> bool:
    """Tell whether a key is the playground's and not one that somebody made."""
    return key.key_id.version == VERSION_8


async def playground_key(parts: Parts, account_id: UUID, *, refused_before: bool) -> str:
    """Return the text of the account's key, made or renewed if need be.

    ``refused_before`` is whether the gateway has just refused it, because the secret was rotated or another process
    renewed it meanwhile; then it gets its next text at once.
    """
    known = {key.key_id: key for key in await keys.list_keys(parts.db, account_id)}
    key_id = _usable_id(account_id, known)
    ends_at = _end(parts.door.clock.now())
    current = known.get(key_id)
    if current is not None and current.scopes.expires_at is not None:
        kept_until = current.scopes.expires_at
        ends_at = kept_until + NEXT_TEXT if refused_before else max(ends_at, kept_until)
        if kept_until == ends_at:
            return _text(parts, key_id, ends_at)
    text = _text(parts, key_id, ends_at)
    await keys.renew_key(
        parts.db,
        parts.door.clock,
        parts.settings.base.peppers,
        key_id,
        account_id=account_id,
        text=text,
        scopes=KeyScopes(name=NAME, expires_at=ends_at, endpoints=(Endpoint.RESPONSES,)),
    )
    return text


def _usable_id(account_id: UUID, known: dict[UUID, ApiKey]) -> UUID:
    """Return the first of the account's ids whose key was neither revoked nor rotated."""
    for number in itertools.count():
        key = known.get(key_id := _computed_id(account_id, number))
        if key is None or (key.revoked_at is None and key.replaced_by is None):
            return key_id
    raise AssertionError


def _computed_id(account_id: UUID, number: int) -> UUID:
    digest = hashlib.sha256(b"nusagate playground %b %d" % (account_id.bytes, number)).digest()
    value = int.from_bytes(digest[:16], "big") & ~(0xF << 76) & ~(0b11 << 62)
    return UUID(int=value | VERSION_8 << 76 | VARIANT_RFC << 62)


def _end(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) + LIFE


def _text(parts: Parts, key_id: UUID, ends_at: datetime) -> str:
    purpose = key_id.bytes + format_utc(ends_at).encode()
    return derive_key(parts.door.keyring.digest(Purpose.PLAYGROUND, purpose))
