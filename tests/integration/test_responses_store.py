"""The state of the Responses API in a real database."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from gateway.db.pool import Pool
from gateway.errors import InvalidValue
from gateway.responses import store
from gateway.responses.conversation import MAX_TURNS, ResponseNotFound, encode_items
from gateway.responses.from_chat import output_from_chat
from gateway.responses.items import Item, Message
from gateway.responses.model import ENCODER, end_response, new_response
from gateway.responses.request import ResponseRequest, parse_request
from gateway.responses.service import input_items_page, whole_conversation

SARI, BUDI = uuid4(), uuid4()
MIB = 2**20


def asked(text: str, previous: str | None = None) -> ResponseRequest:
    body = {"model": "m", "input": text, "previous_response_id": previous}
    return parse_request(msgspec.json.encode(body), max_depth=16)


def texts(items: tuple[Item, ...]) -> list[str]:
    return [item.content[0].text for item in items if isinstance(item, Message)]


async def kept(
    db: Pool, name: str, previous: str | None = None, *, account: UUID = SARI, days: int = 30
) -> None:
    request = asked(f"{name} asked", previous)
    draft = new_response(request, response_id=name, created_at=1, default_temperature=0.7)
    body = ENCODER.encode({"choices": [{"message": {"content": f"{name} answered"}}]})
    ended = end_response(draft, output_from_chat(body), None, completed_at=2, stored=True)
    now = datetime.now(UTC)
    await db.execute(
        "INSERT INTO stored_response VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        name,
        account,
        now,
        now + timedelta(days=days),
        previous,
        request.model,
        encode_items(request.input).decode(),
        ENCODER.encode(ended).decode(),
    )


async def test_a_response_is_found_by_its_account_as_it_was_answered(db: Pool) -> None:
    await kept(db, "one")
    response = msgspec.json.decode(await store.find_response(db, SARI, "one"))
    assert (response["id"], response["output"][0]["content"][0]["text"]) == ("one", "one answered")
    for account, name in ((BUDI, "one"), (SARI, "two")):
        with pytest.raises(ResponseNotFound):
            await store.find_response(db, account, name)


async def test_a_conversation_is_continued_from_all_its_turns(db: Pool) -> None:
    await kept(db, "one")
    await kept(db, "two", "one")
    items = await whole_conversation(db, SARI, asked("three asked", "two"), max_bytes=MIB)
    assert texts(items) == ["one asked", "one answered", "two asked", "two answered", "three asked"]
    alone = await whole_conversation(db, SARI, asked("alone"), max_bytes=MIB)
    assert texts(alone) == ["alone"]


@pytest.mark.parametrize(
    "previous", ["nobody's", "budi's", "expired", "after a hole", "after an expired one", "after budi's"]
)
async def test_a_conversation_that_is_not_all_there_and_ones_own_is_not_found(
    db: Pool, previous: str
) -> None:
    await kept(db, "budi's", account=BUDI)
    await kept(db, "expired", days=-1)
    await kept(db, "after a hole", "hole")
    await kept(db, "after an expired one", "expired")
    await kept(db, "after budi's", "budi's")
    with pytest.raises(ResponseNotFound) as refusal:
        await whole_conversation(db, SARI, asked("more", previous), max_bytes=MIB)
    assert refusal.value.param == "previous_response_id"


async def test_a_conversation_has_a_limit_of_bytes(db: Pool) -> None:
    await kept(db, "one")
    await kept(db, "two", "one")
    await kept(db, "three", "two")
    with pytest.raises(InvalidValue):
        await store.find_conversation(db, SARI, "three", max_bytes=300)
    assert len(await store.find_conversation(db, SARI, "three", max_bytes=3000)) == 3


async def test_a_conversation_has_a_limit_of_turns(db: Pool) -> None:
    await kept(db, "0")
    for number in range(1, MAX_TURNS + 1):
        await kept(db, f"{number}", f"{number - 1}")
    assert len(await store.find_conversation(db, SARI, f"{MAX_TURNS - 1}", max_bytes=MIB)) == MAX_TURNS
    with pytest.raises(InvalidValue):
        await store.find_conversation(db, SARI, f"{MAX_TURNS}", max_bytes=MIB)


async def test_only_the_account_itself_deletes_a_response_and_only_once(db: Pool) -> None:
    await kept(db, "one")
    with pytest.raises(ResponseNotFound):
        await store.delete_response(db, BUDI, "one")
    await store.delete_response(db, SARI, "one")
    with pytest.raises(ResponseNotFound):
        await store.delete_response(db, SARI, "one")


async def test_input_items_are_paged(db: Pool) -> None:
    await kept(db, "one")
    page = await input_items_page(db, SARI, "one")
    assert texts(tuple(page.data)) == ["one asked"]
    assert page.first_id == page.last_id
    with pytest.raises(ResponseNotFound):
        await input_items_page(db, BUDI, "one")


async def test_what_expired_is_gone_and_deleted_a_few_at_a_time(db: Pool) -> None:
    for number in range(3):
        await kept(db, f"old {number}", days=-1)
    await kept(db, "new")
    with pytest.raises(ResponseNotFound):
        await store.find_response(db, SARI, "old 0")
    assert [await store.delete_expired(db, 2) for _ in range(3)] == [2, 1, 0]
    assert await store.find_response(db, SARI, "new")
