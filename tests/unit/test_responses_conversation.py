"""How turns are joined, paged and made fit for the database."""

import json

import pytest

from gateway.db.jsonb import jsonb_text
from gateway.errors import InvalidValue
from gateway.responses.conversation import (
    ResponseNotFound,
    StoredTurn,
    conversation_of,
    decode_items,
    encode_items,
    page_of_items,
)
from gateway.responses.items import InputText, Item, ItemStatus, Message, OutputText, Role
from gateway.responses.model import ENCODER


def said(role: Role, text: str, item_id: str = "") -> Message:
    part = OutputText(text) if role is Role.ASSISTANT else InputText(text)
    return Message(item_id, ItemStatus.COMPLETED, role, (part,))


def turn(name: str, previous: str | None) -> StoredTurn:
    answered = ENCODER.encode([said(Role.ASSISTANT, f"{name} answered", "msg_1")]).decode()
    return StoredTurn(name, previous, encode_items([said(Role.USER, f"{name} asked")]).decode(), answered)


def texts(items: tuple[Item, ...]) -> list[str]:
    return [item.content[0].text for item in items if isinstance(item, Message)]


def test_turns_are_joined_oldest_first_and_the_new_input_comes_last() -> None:
    items = conversation_of([turn("one", None), turn("two", "one")], [said(Role.USER, "three asked")])
    assert texts(items) == ["one asked", "one answered", "two asked", "two answered", "three asked"]


@pytest.mark.parametrize("turns", [[turn("two", "one")], [turn("one", None), turn("three", "two")]])
def test_a_conversation_that_lost_a_turn_is_not_continued(turns: list[StoredTurn]) -> None:
    with pytest.raises(ResponseNotFound) as refusal:
        conversation_of(turns, [])
    assert refusal.value.param == "previous_response_id"


def test_items_are_kept_with_an_id_and_come_back_as_they_were() -> None:
    given = [said(Role.USER, "Halo", "msg_mine"), said(Role.USER, "again")]
    kept = decode_items(encode_items(given).decode())
    assert kept[0] == given[0]
    assert kept[1].id.startswith("msg_")
    assert texts(kept) == ["Halo", "again"]


ITEMS = [said(Role.USER, str(number), f"msg_{number}") for number in range(5)]


def ids(**arguments: object) -> list[str]:
    return [item.id for item in page_of_items(ITEMS, **arguments).data]


def test_a_page_follows_an_item_in_either_order() -> None:
    assert ids(limit=2) == ["msg_4", "msg_3"]
    assert ids(limit=2, after="msg_3") == ["msg_2", "msg_1"]
    assert ids(order="asc", limit=2, after="msg_3") == ["msg_4"]
    page = page_of_items(ITEMS, order="asc", limit=2)
    assert (page.first_id, page.last_id, page.has_more) == ("msg_0", "msg_1", True)
    assert not page_of_items(ITEMS, limit=5).has_more
    assert page_of_items([], limit=5).first_id is None


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "msg_9"}, "after"),
    ],
)
def test_a_wrong_page_is_refused_by_name(arguments: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        page_of_items(ITEMS, **arguments)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\0b", "a\ufffdb"),
        ("\\u0000", "\\u0000"),
        ("\\\0", "\\\ufffd"),
        ("\\\\u0000\0", "\\\\u0000\ufffd"),
        ("é", "é"),
    ],
)
def test_only_a_real_nul_is_replaced_for_the_database(text: str, kept: str) -> None:
    assert json.loads(jsonb_text(ENCODER.encode([text]))) == [kept]
