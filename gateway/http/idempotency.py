"""``Idempotency-Key``: a request that is sent twice is served and charged once.

A key is claimed before the request is admitted. The finished answer is kept in the transaction that settles it, so
a repetition gets the same bytes; streams and answers that must not be kept are refused instead of served again.
"""

import hashlib
from uuid import UUID

from gateway.db.pool import Db
from gateway.errors import InvalidValue, NusagateError
from gateway.http import store

KEY_MAX_CHARACTERS = 255


class IdempotencyConflict(NusagateError):
    """This Idempotency-Key was used for another request, or its answer was not kept."""

    code = "idempotency_conflict"


class RequestInProgress(NusagateError):
    """The request with this Idempotency-Key is still being served."""

    code = "request_in_progress"


async def claim(
    db: Db, account_id: UUID, key: str, request_id: UUID, *, endpoint: str, body: bytes
) -> bytes | None:
    """Claim a key for a request, or return the answer that a repetition gets.

    A repetition is the same body sent to the same endpoint. Raises ``InvalidValue``, ``RequestInProgress`` or ``IdempotencyConflict``.
    """
    if not key.isprintable() or not 1 <= len(key) <= KEY_MAX_CHARACTERS:
        raise InvalidValue(
            f"Idempotency-Key must have 1 to {KEY_MAX_CHARACTERS} printable characters.",
            param="idempotency-key",
        )
    digest = hashlib.sha256(endpoint.encode() + b"\n" + body).digest()
    claimed = await store.claim(db, account_id, key, digest, request_id)
    if claimed.request_id == request_id:
        return None
    if claimed.digest != digest:
        raise IdempotencyConflict("This Idempotency-Key was used for another request.")
    if claimed.open:
        raise RequestInProgress
    if claimed.answer is None:
        raise IdempotencyConflict(
            "The request with this Idempotency-Key is finished, and its answer was not kept."
        )
    return claimed.answer


async def give_up(db: Db, account_id: UUID, key: str, request_id: UUID) -> None:
    """Free a key whose request was not admitted, so that it can be tried again."""
    await store.release(db, account_id, key, request_id)
