"""A whole conversation for a model that remembers nothing: the turns kept before, and what is new."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gateway.errors import InvalidValue, NusagateError
from gateway.responses.fields import read_choice, read_integer
from gateway.responses.items import Item, with_id
from gateway.responses.model import ENCODER

MAX_TURNS: Final = 200
"""A conversation is followed back this far at most."""

MAX_PAGE_ITEMS: Final = 100
DEFAULT_PAGE_ITEMS: Final = 20

ITEMS_DECODER: Final = msgspec.json.Decoder(tuple[Item, ...])


class ResponseNotFound(NusagateError):
    """No response with this id is stored."""

    code = "response_not_found"


class StoredTurn(msgspec.Struct, frozen=True, gc=False):
    """One turn of a conversation as the database has it; items and output are JSON."""

    response_id: str
    previous_response_id: str | None
    input_items: str
    output: str


class ItemPage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A page of the items that a response was made from."""

    object: str = "list"
    data: Sequence[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


def conversation_of(turns: Iterable[StoredTurn], new_items: Sequence[Item]) -> tuple[Item, ...]:
    """Join the turns, oldest first, and the items of a new one.

    Raises ``ResponseNotFound`` where an earlier turn is gone: half a conversation is never passed off as all
    of it.
    """
    items: list[Item] = []
    expected: str | None = None
    for turn in turns:
        if turn.previous_response_id != expected:
            raise ResponseNotFound(
                "An earlier turn of this conversation is no longer stored.", param="previous_response_id"
            )
        expected = turn.response_id
        items += ITEMS_DECODER.decode(turn.input_items)
        items += ITEMS_DECODER.decode(turn.output)
    return (*items, *new_items)


def encode_items(items: Iterable[Item]) -> bytes:
    """Encode the input of a turn for keeping; items that came without an id get one."""
    return ENCODER.encode([with_id(item) for item in items])


def decode_items(items_json: str) -> tuple[Item, ...]:
    """Decode what ``encode_items`` encoded."""
    return ITEMS_DECODER.decode(items_json)


def page_of_items(
    items: Sequence[Item], *, order: str = "desc", limit: int = DEFAULT_PAGE_ITEMS, after: str | None = None
) -> ItemPage:
    """Cut a page of at most ``limit`` items out of a turn's input, following the item ``after``.

    ``order`` is ``asc`` or ``desc``. Raises ``InvalidValue`` naming the parameter.
    """
    read_choice(order, "order", allowed=("asc", "desc"))
    read_integer(limit, "limit", minimum=1, maximum=MAX_PAGE_ITEMS)
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        ids = [item.id for item in ordered]
        if after not in ids:
            raise InvalidValue("'after' must be the id of an item of this response.", param="after")
        start = ids.index(after) + 1
    data = ordered[start : start + limit]
    return ItemPage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=start + limit < len(ordered),
    )
