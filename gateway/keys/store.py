"""Keys in Postgres."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from gateway.accounts.model import AccountNotFound, AccountStatus
from gateway.accounts.store import limits_from
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.keys import model
from gateway.keys.model import ApiKey, Endpoint, KeyRecord, KeyScopes, SpendGuard
from gateway.plans.model import Billing, OnDisconnect
from gateway.units import Currency

QUERIES = load_queries("gateway.keys")


class FoundKey(msgspec.Struct, frozen=True):
    """A key that a digest belongs to, and the pepper that it is stored under."""

    record: KeyRecord
    digest: bytes
    pepper_version: int


class KeySecret(msgspec.Struct, frozen=True):
    """What is stored of a key's text."""

    prefix: str
    last4: str
    digest: bytes
    pepper_version: int


class Use(msgspec.Struct, frozen=True):
    """The latest use of a key."""

    key_id: UUID
    model: str
    used_at: datetime


async def find_key(db: Db, digests: list[bytes]) -> FoundKey | None:
    """Read the working key that one of these digests belongs to, in one query."""
    row = await db.fetchrow(QUERIES["find_key"], digests)
    return FoundKey(_record(row), row["digest"], row["pepper_version"]) if row else None


async def month_limit(db: Db, account_id: UUID, now: datetime) -> int | None:
    """Read how many tokens an account may use in the month of a moment, as admission would; ``AccountNotFound``."""
    row = await db.fetchrow(QUERIES["account_terms"], account_id)
    if row is None:
        raise AccountNotFound(f"There is no account {account_id}.")
    return model.month_limit(limits_from(row), Billing(row["billing"]), _guard(row), now)


async def store_digest(db: Db, key_id: UUID, *, old: bytes, new: bytes, pepper_version: int) -> None:
    """Keep a key under another pepper."""
    await db.execute(QUERIES["store_digest"], key_id, old, new, pepper_version)


async def count_keys(db: Db, account_id: UUID) -> int:
    """Count the keys of an account that are not revoked."""
    return int(await db.fetchval(QUERIES["count_keys"], account_id))


async def insert_key(
    db: Db, key_id: UUID, account_id: UUID, *, secret: KeySecret, scopes: KeyScopes, created_at: datetime
) -> None:
    """Write a new key; ``AccountNotFound`` if there is no such account."""
    await _write_key(
        db, "insert_key", key_id, account_id, secret=secret, scopes=scopes, created_at=created_at
    )


async def renew_key(
    db: Db, key_id: UUID, account_id: UUID, *, secret: KeySecret, scopes: KeyScopes, created_at: datetime
) -> None:
    """Write a key, or give the one with this id its next text and end; ``AccountNotFound``."""
    await _write_key(db, "renew_key", key_id, account_id, secret=secret, scopes=scopes, created_at=created_at)


async def fetch_keys(db: Db, account_id: UUID, *, limit: int) -> list[ApiKey]:
    """Read the newest keys of an account, revoked ones too."""
    return [_api_key(row) for row in await db.fetch(QUERIES["list_keys"], account_id, limit)]


async def lock_key(connection: Connection, key_id: UUID, account_id: UUID | None) -> ApiKey | None:
    """Read a key, of any account where ``account_id`` is ``None``, and hold it for the transaction."""
    row = await connection.fetchrow(QUERIES["lock_key"], key_id, account_id)
    return _api_key(row) if row else None


async def revoke_key(db: Db, key_id: UUID, account_id: UUID | None, moment: datetime) -> ApiKey | None:
    """Stop a key, of any account where ``account_id`` is ``None``."""
    row = await db.fetchrow(QUERIES["revoke_key"], key_id, account_id, moment)
    return _api_key(row) if row else None


async def replace_key(
    connection: Connection,
    key_id: UUID,
    *,
    replaced_by: UUID,
    expires_at: datetime,
    revoked_at: datetime | None,
) -> None:
    """Let a key end because another one took its place."""
    await connection.execute(QUERIES["replace_key"], key_id, replaced_by, expires_at, revoked_at)


async def mark_used(connection: Connection, uses: list[Use]) -> None:
    """Write when keys were last used; the caller holds the transaction."""
    key_ids = [use.key_id for use in uses]
    await connection.execute(QUERIES["lock_used"], key_ids)
    await connection.execute(
        QUERIES["mark_used"], key_ids, [use.model for use in uses], [use.used_at for use in uses]
    )


async def ping(connection: Connection, *, timeout_s: float) -> None:
    """Ask whether a connection is alive; ``TimeoutError`` where it does not answer in time."""
    await connection.execute(QUERIES["ping"], timeout=timeout_s)


async def _write_key(
    db: Db,
    query: str,
    key_id: UUID,
    account_id: UUID,
    *,
    secret: KeySecret,
    scopes: KeyScopes,
    created_at: datetime,
) -> None:
    try:
        await db.execute(
            QUERIES[query],
            key_id,
            account_id,
            scopes.name,
            secret.prefix,
            secret.last4,
            secret.digest,
            secret.pepper_version,
            scopes.monthly_tokens,
            scopes.models,
            scopes.endpoints,
            scopes.ip_ranges,
            created_at,
            scopes.expires_at,
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise AccountNotFound(f"There is no account {account_id}.", param="account") from error


def _record(row: Row) -> KeyRecord:
    return KeyRecord(
        key_id=row["key_id"],
        name=row["name"],
        prefix=row["prefix"],
        last4=row["last4"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        monthly_tokens=row["key_monthly_tokens"],
        models=_set(row["models"]),
        endpoints=_set(row["endpoints"]),
        networks=None if row["ip_ranges"] is None else tuple(row["ip_ranges"]),
        account_id=row["account_id"],
        account_status=AccountStatus(row["status"]),
        currency=Currency(row["currency"]),
        plan_id=row["plan_id"],
        billing=Billing(row["billing"]),
        on_disconnect=OnDisconnect(row["on_disconnect"]),
        limits=limits_from(row),
        guard=_guard(row),
    )


def _guard(row: Row) -> SpendGuard | None:
    if row["guard_period"] is None:
        return None
    return SpendGuard(
        period=row["guard_period"], period_tokens=row["period_tokens"], other_tokens=row["other_tokens"]
    )


def _set(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _api_key(row: Row) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        account_id=row["account_id"],
        prefix=row["prefix"],
        last4=row["last4"],
        scopes=KeyScopes(
            name=row["name"],
            expires_at=row["expires_at"],
            monthly_tokens=row["monthly_tokens"],
            models=None if row["models"] is None else tuple(row["models"]),
            endpoints=None
            if row["endpoints"] is None
            else tuple(Endpoint(name) for name in row["endpoints"]),
            ip_ranges=None
            if row["ip_ranges"] is None
            else tuple(str(network) for network in row["ip_ranges"]),
        ),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        replaced_by=row["replaced_by"],
        last_used_at=row["last_used_at"],
        last_used_model=row["last_used_model"],
    )
