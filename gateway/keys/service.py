"""Making, revoking and rotating keys, and telling whose key a request carries."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from gateway.clock import Clock, monotonic_s
from gateway.db.pool import OPERATIONAL_ERRORS, Connection, DatabaseUnavailable, Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.keys import store
from gateway.keys.cache import KeyCache, Unknown
from gateway.keys.model import (
    ApiKey,
    InvalidApiKey,
    KeyNotActive,
    KeyNotFound,
    KeyRecord,
    KeyScopes,
    KeyStatus,
    MissingApiKey,
    NewKey,
    TooManyKeys,
    check_scopes,
    check_standing,
)
from gateway.keys.store import KeySecret, Use
from gateway.keys.text import LAST_LENGTH, digest_key, generate_key, parse_key, shown_prefix
from gateway.runtime.metrics import count, key_lookups_total

KEYS_PER_ACCOUNT_MAX = 1_000
KEYS_LISTED_MAX = 1_000
GRACE_MAX = timedelta(days=30)
LOOKUP_ATTEMPTS = 3
MARK_EVERY = timedelta(minutes=1)

Peppers = Mapping[int, bytes]
"""Secrets by version, ``Settings.peppers``; new keys are kept under the newest."""


async def create_key(
    db: Db, clock: Clock, peppers: Peppers, *, account_id: UUID, scopes: KeyScopes
) -> NewKey:
    """Make a key; its text is in the answer and nowhere else.

    ``AccountNotFound``, ``TooManyKeys``, or ``InvalidValue`` for scopes that no key can have.
    """
    now = clock.now()
    scopes = check_scopes(scopes, now)
    if await store.count_keys(db, account_id) >= KEYS_PER_ACCOUNT_MAX:
        raise TooManyKeys
    return await _insert(db, peppers, account_id=account_id, scopes=scopes, now=now)


async def month_limit(db: Db, account_id: UUID, now: datetime) -> int | None:
    """Read how many tokens an account may use in the month of a moment, as admission would; ``AccountNotFound``."""
    return await store.month_limit(db, account_id, now)


async def list_keys(db: Db, account_id: UUID) -> list[ApiKey]:
    """Read the newest keys of an account, revoked and expired ones too."""
    return await store.fetch_keys(db, account_id, limit=KEYS_LISTED_MAX)


async def revoke_key(db: Db, clock: Clock, key_id: UUID, *, account_id: UUID | None) -> ApiKey:
    """Stop a key for good, within a second everywhere; ``KeyNotFound``. Repeating it changes nothing.

    ``account_id`` is the account that the key must belong to, ``None`` for an operator.
    """
    key = await store.revoke_key(db, key_id, account_id, clock.now())
    if key is None:
        raise _not_found(key_id)
    return key


async def rotate_key(
    connection: Connection,
    clock: Clock,
    peppers: Peppers,
    key_id: UUID,
    *,
    account_id: UUID | None,
    grace: timedelta,
) -> NewKey:
    """Make a key with the scopes of another one, which works for ``grace`` longer, or stops now where that is 0.

    The caller holds the transaction. ``account_id`` is the account that the key must belong to, ``None`` for an
    operator. ``KeyNotFound``, ``KeyNotActive``, or ``InvalidValue`` for a grace out of range.
    """
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise InvalidValue(f"The grace must be between 0 and {GRACE_MAX.days} days.", param="grace")
    old = await store.lock_key(connection, key_id, account_id)
    if old is None:
        raise _not_found(key_id)
    now = clock.now()
    if old.status(now) is not KeyStatus.ACTIVE or old.replaced_by is not None:
        raise KeyNotActive(f"The key {key_id} is revoked, expired or replaced already.", param="key")
    new = await _insert(connection, peppers, account_id=old.account_id, scopes=old.scopes, now=now)
    ends_at = now + grace
    if old.scopes.expires_at is not None:
        ends_at = min(ends_at, old.scopes.expires_at)
    # "Now" is a revocation, which no gateway's clock has a say in.
    await store.replace_key(
        connection, key_id, replaced_by=new.key_id, expires_at=ends_at, revoked_at=None if grace else now
    )
    return new


async def renew_key(
    db: Db,
    clock: Clock,
    peppers: Peppers,
    key_id: UUID,
    *,
    account_id: UUID,
    text: str,
    scopes: KeyScopes,
) -> None:
    """Make a key of a text that the caller can compute again, or give the one with this id its next text.

    ``scopes.expires_at`` decides: only a later end replaces an earlier one, so any number of processes may do this
    at once. A key that was revoked or rotated stays as it is. ``AccountNotFound``, ``InvalidValue``.
    """
    now = clock.now()
    await store.renew_key(
        db,
        key_id,
        account_id,
        secret=_secret(peppers, text),
        scopes=check_scopes(scopes, now),
        created_at=now,
    )


async def _insert(db: Db, peppers: Peppers, *, account_id: UUID, scopes: KeyScopes, now: datetime) -> NewKey:
    new = NewKey(key_id=uuid7(), account_id=account_id, text=generate_key())
    secret = _secret(peppers, new.text)
    await store.insert_key(db, new.key_id, account_id, secret=secret, scopes=scopes, created_at=now)
    return new


def _secret(peppers: Peppers, text: str) -> KeySecret:
    version = max(peppers)
    return KeySecret(
        prefix=shown_prefix(text),
        last4=text[-LAST_LENGTH:],
        digest=digest_key(text.encode(), peppers[version]),
        pepper_version=version,
    )


def _not_found(key_id: UUID) -> KeyNotFound:
    return KeyNotFound(f"There is no key {key_id}.", param="key")


class KeyService:
    """Tells whose key a request carries: checksum, then cache, then Postgres, asked once for many at a time."""

    def __init__(self, db: Pool, clock: Clock, peppers: Peppers, cache: KeyCache) -> None:
        self._db = db
        self._clock = clock
        self._peppers = peppers
        self._newest = max(peppers)
        self._cache = cache
        self._lookups: dict[bytes, asyncio.Task[KeyRecord | None]] = {}

    async def authenticate(self, presented: str) -> KeyRecord:
        """Return what is known of a presented key.

        ``MissingApiKey`` for an empty text, ``InvalidApiKey`` for one that is malformed, unknown or revoked,
        ``ExpiredApiKey``, ``AccountSuspended``, ``PaymentRequired``; ``DatabaseUnavailable`` where the key is
        not at hand and Postgres does not answer.
        """
        if not presented:
            raise MissingApiKey
        try:
            text = parse_key(presented)
        except InvalidApiKey:
            count(key_lookups_total, "malformed")
            raise
        digest = digest_key(text, self._peppers[self._newest])
        found = self._cache.get(digest, monotonic_s())
        if found is None:
            found = await self._look_up(digest, text)
        else:
            count(key_lookups_total, "cache")
        if found is None or isinstance(found, Unknown):
            count(key_lookups_total, "unknown")
            raise InvalidApiKey
        check_standing(found, self._clock.now())
        return found

    async def _look_up(self, digest: bytes, text: bytes) -> KeyRecord | None:
        """Join the look-up of this key that is on its way, or start one; a caller that gives up stops nobody."""
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_task(self._read_fresh(digest, text))
            self._lookups[digest] = lookup
            lookup.add_done_callback(lambda done: self._landed(digest, done))
        try:
            return await asyncio.shield(lookup)
        except OPERATIONAL_ERRORS as error:
            raise DatabaseUnavailable from error

    def _landed(self, digest: bytes, lookup: "asyncio.Task[KeyRecord | None]") -> None:
        del self._lookups[digest]
        if not lookup.cancelled():
            # Everybody who waited may have gone; then nobody else would look at the error.
            lookup.exception()

    async def _read_fresh(self, digest: bytes, text: bytes) -> KeyRecord | None:
        """Read a key; once more if a change was heard meanwhile, because the answer may be from before it."""
        for _ in range(LOOKUP_ATTEMPTS):
            epoch = self._cache.epoch
            record = await self._read(digest, text)
            if epoch == self._cache.epoch:
                break
        self._cache.put(digest, record, now_s=monotonic_s(), epoch=epoch)
        return record

    async def _read(self, digest: bytes, text: bytes) -> KeyRecord | None:
        """Ask Postgres, under every pepper; a key kept under an old one is kept under the newest from now on."""
        count(key_lookups_total, "database")
        older = [
            digest_key(text, pepper) for version, pepper in self._peppers.items() if version != self._newest
        ]
        found = await store.find_key(self._db, [digest, *older])
        if found is None:
            return None
        if found.pepper_version != self._newest:
            await store.store_digest(
                self._db, found.record.key_id, old=found.digest, new=digest, pepper_version=self._newest
            )
        return found.record


class LastUsed:
    """Remembers when keys were last used, and writes it down at most once a minute for each."""

    def __init__(self, *, keys_max: int) -> None:
        self._keys_max = keys_max
        self._uses: dict[UUID, Use] = {}
        self._written: dict[UUID, datetime] = {}

    def mark(self, key_id: UUID, model: str, now: datetime) -> None:
        """Note a use; cheap enough for every request."""
        if key_id in self._uses or len(self._uses) < self._keys_max:
            self._uses[key_id] = Use(key_id, model, now)

    async def flush(self, db: Pool, now: datetime) -> int:
        """Write the uses that are due in one transaction, and return how many; what fails is tried again."""
        self._written = {key_id: at for key_id, at in self._written.items() if now - at < MARK_EVERY}
        due = {key_id: use for key_id, use in self._uses.items() if key_id not in self._written}
        if not due:
            return 0
        async with db.acquire() as connection, connection.transaction():
            await store.mark_used(connection, list(due.values()))
        self._written.update(dict.fromkeys(due, now))
        self._uses = {key_id: use for key_id, use in self._uses.items() if use is not due.get(key_id)}
        return len(due)
