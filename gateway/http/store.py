"""Idempotency keys in Postgres."""

from uuid import UUID

import msgspec

from gateway.db.pool import Db
from gateway.db.queries import load_queries

QUERIES = load_queries(__package__)


class Claim(msgspec.Struct, frozen=True):
    """Who has a key: the request it belongs to, the digest of its body, and its answer if that was kept."""

    request_id: UUID
    digest: bytes
    open: bool
    answer: bytes | None


async def claim(db: Db, account_id: UUID, key: str, digest: bytes, request_id: UUID) -> Claim:
    """Claim a key, or read who has it."""
    row = None
    # A claim that lost to one which had not committed yet sees its winner only in a new snapshot.
    while row is None:
        row = await db.fetchrow(QUERIES["claim_idempotency_key"], account_id, key, digest, request_id)
    return Claim(row["request_id"], row["request_sha256"], row["open"], row["body"])


async def release(db: Db, account_id: UUID, key: str, request_id: UUID) -> None:
    """Free a key whose request has neither an entry nor a reservation."""
    await db.execute(QUERIES["release_idempotency_key"], account_id, key, request_id)


async def delete_expired(db: Db, limit: int) -> int:
    """Clear one page of expired keys; return how many went."""
    status = await db.execute(QUERIES["delete_expired_idempotency_keys"], limit)
    return int(status.rpartition(" ")[2])
