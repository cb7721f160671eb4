"""However an upstream cuts its answer into pieces, the same answer comes out."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.responses.chat_stream import ChatStreamTranslator
from gateway.responses.from_chat import output_from_chat
from gateway.responses.items import FunctionCall, Item, Message, ReasoningItem, text_of
from gateway.responses.model import ResponseObject, new_response
from gateway.responses.request import parse_request
from gateway.responses.responses_stream import ResponsesStreamTranslator

texts = st.text(max_size=20)
tool_calls = st.lists(texts, max_size=3)
finish_reasons = st.sampled_from(["stop", "length", "content_filter", "tool_calls"])


def draft() -> ResponseObject:
    request = parse_request(b'{"model":"m","input":"Halo"}', max_depth=16)
    return new_response(request, response_id="resp_1", created_at=1, default_temperature=0.7)


def shape(item: Item) -> tuple[Any, ...]:
    """Return all of an item but its ids."""
    match item:
        case Message():
            return (item.status, [(type(part), text_of(part)) for part in item.content])
        case FunctionCall():
            return (item.status, item.name, item.arguments)
        case ReasoningItem():
            return ("reasoning", item.content)
        case _:
            raise AssertionError


def pieces(data: st.DataObject, text: str) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def call_delta(index: int, arguments: str, **first: Any) -> dict[str, Any]:
    name = {"name": f"f{index}"} if first else {}
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **name}, **first}]}


def chunks(
    data: st.DataObject, message: dict[str, Any], arguments: list[str], finish_reason: str
) -> list[bytes]:
    """Cut a message into chunks: text in order, and the pieces of the calls mixed."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in pieces(data, message[name])]
    deltas += [call_delta(index, "", id=f"call_{index}") for index in range(len(arguments))]
    queues = [
        [call_delta(index, piece) for piece in pieces(data, text)] for index, text in enumerate(arguments)
    ]
    while any(queues):
        deltas.append(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish_reason})
    return [json.dumps({"choices": [choice]}).encode() for choice in choices]


messages = st.fixed_dictionaries({"reasoning_content": texts, "content": texts, "refusal": texts})


@given(st.data(), messages, tool_calls, finish_reasons)
def test_any_chunking_gives_the_items_of_the_whole_answer(
    data: st.DataObject, message: dict[str, str], arguments: list[str], finish_reason: str
) -> None:
    calls = [
        {"id": f"call_{index}", "function": {"name": f"f{index}", "arguments": text}}
        for index, text in enumerate(arguments)
    ]
    choice = {"message": message | {"tool_calls": calls}, "finish_reason": finish_reason}
    whole = output_from_chat(json.dumps({"choices": [choice]}).encode())

    translator = ChatStreamTranslator(draft())
    frames = translator.start()
    for chunk in chunks(data, message, arguments, finish_reason):
        frames += translator.feed(chunk)
    frames += translator.finish()
    terminal = translator.terminal(None, completed_at=2, stored=True)

    assert [shape(item) for item in translator.output_items()] == [shape(item) for item in whole.output]
    assert translator.delivered_text_bytes == whole.delivered_text_bytes
    assert (terminal.response.status, translator.answer().incomplete_reason) == (
        whole.status,
        whole.incomplete_reason,
    )

    payloads = [frame.split(b"\ndata: ")[1].removesuffix(b"\n\n") for frame in [*frames, terminal.frame]]
    assert [json.loads(payload)["sequence_number"] for payload in payloads] == list(range(len(payloads)))

    relay = ResponsesStreamTranslator(draft())
    relayed = relay.start()
    for payload in payloads:
        relayed += relay.feed(payload)
    assert relayed[2:] == frames[2:]
    assert relay.output_items() == terminal.response.output


@given(st.lists(st.tuples(st.sampled_from(["reasoning", "content", "refusal"]), texts), max_size=12))
def test_nothing_that_was_written_is_lost_in_any_order(written: list[tuple[str, str]]) -> None:
    translator = ChatStreamTranslator(draft())
    for name, text in written:
        translator.feed(json.dumps({"choices": [{"delta": {name: text}}]}).encode())
    open_items = translator.output_items()
    translator.finish()
    for items in (open_items, translator.output_items()):
        parts = [part for item in items for part in item.content]
        assert "".join(text_of(part) for part in parts) == "".join(text for _, text in written)
