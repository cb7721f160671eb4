"""Where responses are kept between requests: one row each, seen only by the account that made it."""

from typing import Final
from uuid import UUID

from gateway.db.pool import Db
from gateway.db.queries import load_queries
from gateway.errors import InvalidValue
from gateway.responses.conversation import MAX_TURNS, ResponseNotFound, StoredTurn

QUERIES: Final = load_queries(__package__)


async def find_response(db: Db, account_id: UUID, response_id: str) -> bytes:
    """Return the encoded object of a response; ``ResponseNotFound``."""
    response = await db.fetchval(QUERIES["find_response"], response_id, account_id)
    return str(_found(response)).encode()


async def find_input_items(db: Db, account_id: UUID, response_id: str) -> str:
    """Return the encoded items that a response was made from; ``ResponseNotFound``."""
    return str(_found(await db.fetchval(QUERIES["find_input_items"], response_id, account_id)))


async def delete_response(db: Db, account_id: UUID, response_id: str) -> None:
    """Forget a response; ``ResponseNotFound``."""
    _found(await db.fetchval(QUERIES["delete_response"], response_id, account_id))


async def delete_responses_of(db: Db, account_id: UUID) -> None:
    """Forget all responses of an account."""
    await db.execute(QUERIES["delete_responses_of"], account_id)


async def find_conversation(
    db: Db, account_id: UUID, response_id: str, *, max_bytes: int
) -> list[StoredTurn]:
    """Return the turns that lead to a response, oldest first and that response last.

    Raises ``ResponseNotFound``, or ``InvalidValue`` when there are more than ``MAX_TURNS`` turns or more than
    ``max_bytes`` bytes of them.
    """
    rows = await db.fetch(QUERIES["conversation"], response_id, account_id, MAX_TURNS, max_bytes)
    if not rows:
        raise ResponseNotFound(param="previous_response_id")
    if len(rows) > MAX_TURNS or rows[0]["bytes"] > max_bytes:
        raise InvalidValue("The conversation is too long to be continued.", param="previous_response_id")
    return [
        StoredTurn(row["response_id"], row["previous_response_id"], row["input_items"], row["output"])
        for row in rows
    ]


async def delete_expired(db: Db, limit: int) -> int:
    """Forget up to ``limit`` responses whose time is over; returns how many."""
    status = await db.execute(QUERIES["delete_expired_responses"], limit)
    return int(status.rpartition(" ")[2])


def _found(value: object) -> object:
    if value is None:
        raise ResponseNotFound
    return value
