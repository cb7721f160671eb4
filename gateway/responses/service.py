"""The state of the Responses API: what is kept of an answer, and what the next one continues from."""

from uuid import UUID

from gateway.db.pool import Db
from gateway.responses import store
from gateway.responses.conversation import (
    DEFAULT_PAGE_ITEMS,
    ItemPage,
    conversation_of,
    decode_items,
    page_of_items,
)
from gateway.responses.items import Item
from gateway.responses.request import ResponseRequest


async def whole_conversation(
    db: Db, account_id: UUID, request: ResponseRequest, *, max_bytes: int
) -> tuple[Item, ...]:
    """Return the earlier turns that a request continues, and its own input.

    Raises ``ResponseNotFound``, also for a response of another account, and ``InvalidValue`` when the earlier
    turns have more than ``max_bytes`` bytes.
    """
    if request.previous_response_id is None:
        return request.input
    turns = await store.find_conversation(db, account_id, request.previous_response_id, max_bytes=max_bytes)
    return conversation_of(turns, request.input)


async def input_items_page(
    db: Db,
    account_id: UUID,
    response_id: str,
    *,
    order: str = "desc",
    limit: int = DEFAULT_PAGE_ITEMS,
    after: str | None = None,
) -> ItemPage:
    """Return a page of the items that a response was made from; ``ResponseNotFound``, ``InvalidValue``."""
    items = decode_items(await store.find_input_items(db, account_id, response_id))
    return page_of_items(items, order=order, limit=limit, after=after)
