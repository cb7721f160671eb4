"""How streams of upstreams become streams of ours, event by event."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from gateway.responses.chat_stream import ChatStreamTranslator
from gateway.responses.items import FunctionCall, ItemStatus, Message, OutputText
from gateway.responses.model import (
    MalformedUpstreamAnswer,
    ResponseError,
    ResponseObject,
    ResponseStatus,
    new_response,
)
from gateway.responses.request import parse_request
from gateway.responses.responses_stream import ResponsesStreamTranslator
from gateway.responses.stream import StreamTranslator
from gateway.units import TokenCounts


def draft() -> ResponseObject:
    request = parse_request(b'{"model":"nusantara-base","input":"Halo"}', max_depth=16)
    return new_response(request, response_id="resp_1", created_at=100, default_temperature=0.7)


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}).encode()


def call_chunk(arguments: str | None, name: str | None = None, **more: Any) -> bytes:
    return chunk(tool_calls=[{"function": {"name": name, "arguments": arguments}, **more}])


def heard(translator: StreamTranslator, *payloads: bytes) -> list[dict[str, Any]]:
    frames = [frame for data in payloads for frame in translator.feed(data)]
    return [json.loads(frame.split(b"\ndata: ")[1]) for frame in frames]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def calls(translator: ChatStreamTranslator) -> list[tuple[str, str]]:
    translator.finish()
    return [
        (item.name, item.arguments) for item in translator.output_items() if isinstance(item, FunctionCall)
    ]


def test_a_stream_opens_before_anything_was_heard() -> None:
    frames = ChatStreamTranslator(draft()).start()
    assert [frame.split(b"\n")[0] for frame in frames] == [
        b"event: response.created",
        b"event: response.in_progress",
    ]
    assert json.loads(frames[0].split(b"\ndata: ")[1])["response"]["status"] == "in_progress"


def test_text_is_told_as_it_comes_and_closed_at_the_end() -> None:
    translator = ChatStreamTranslator(draft())
    translator.start()
    events = heard(
        translator,
        chunk(role="assistant", content=""),
        chunk(content="Hé"),
        chunk(),
        chunk(content="llo"),
        chunk("stop"),
    )
    assert names(events) == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
    ]
    assert [event["sequence_number"] for event in events] == [2, 3, 4, 5]
    assert translator.delivered_text_bytes == len("Héllo".encode())
    assert translator.finish_reason == "stop"
    closing = [json.loads(frame.split(b"\ndata: ")[1]) for frame in translator.finish()]
    assert names(closing) == ["output_text.done", "content_part.done", "output_item.done"]
    assert closing[0]["text"] == "Héllo"
    assert translator.finish() == []


def test_the_last_event_waits_for_the_caller_and_holds_what_is_stored() -> None:
    translator = ChatStreamTranslator(draft())
    heard(translator, chunk(content="Hi"), chunk("stop"))
    translator.finish()
    counts = TokenCounts(input_text=3, output_text=2)
    terminal = translator.terminal(counts, completed_at=105, stored=True)
    event = json.loads(terminal.frame.split(b"\ndata: ")[1])
    assert terminal.frame.startswith(b"event: response.completed\n")
    assert event["response"] == json.loads(terminal.response_json)
    assert event["response"]["usage"]["total_tokens"] == 5
    assert terminal.response.output == translator.output_items()


def test_what_is_begun_ends_where_something_else_begins() -> None:
    translator = ChatStreamTranslator(draft())
    events = heard(
        translator,
        chunk(reasoning="Hm"),
        chunk(content="Yes"),
        call_chunk("{}", "time", index=0, id="a"),
        chunk(content="!"),
    )
    assert names(events) == [
        "output_item.added", "content_part.added", "reasoning.delta",
        "reasoning.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta",
        "output_item.added", "content_part.added", "output_text.delta",
    ]  # fmt: skip
    assert [event["output_index"] for event in events if event["type"] == "response.output_item.added"] == [
        0,
        1,
        2,
        3,
    ]


def test_calls_are_told_apart_however_an_upstream_numbers_them() -> None:
    mixed = ChatStreamTranslator(draft())
    heard(
        mixed,
        call_chunk("", "time", index=0, id="a"),
        call_chunk("[", "date", index=1, id="b"),
        call_chunk("{}", index=0),
        call_chunk("]", index=1),
    )
    assert calls(mixed) == [("time", "{}"), ("date", "[]")]

    all_zero = ChatStreamTranslator(draft())
    heard(all_zero, call_chunk("{}", "time", index=0, id="a"), call_chunk("[]", "date", index=0, id="b"))
    assert calls(all_zero) == [("time", "{}"), ("date", "[]")]

    without_index = ChatStreamTranslator(draft())
    heard(without_index, call_chunk("{", "time"), call_chunk("}"), call_chunk("[]", "date"))
    assert calls(without_index) == [("time", "{}"), ("date", "[]")]

    new_id_each_time = ChatStreamTranslator(draft())
    heard(new_id_each_time, call_chunk("{", "time", index=0, id="a"), call_chunk("}", index=0, id="b"))
    assert calls(new_id_each_time) == [("time", "{}")]

    name_each_time = ChatStreamTranslator(draft())
    heard(name_each_time, call_chunk("{", "time", index=0, id="a"), call_chunk("}", "time", index=0, id="a"))
    assert calls(name_each_time) == [("time", "{}")]

    late_name = ChatStreamTranslator(draft())
    heard(late_name, call_chunk(None, index=0, id="a"), call_chunk("{}", "time", index=0))
    assert calls(late_name) == [("time", "{}")]


def test_calls_with_one_id_get_ids_of_their_own() -> None:
    translator = ChatStreamTranslator(draft())
    heard(translator, call_chunk("{}", "time", index=0, id="a"), call_chunk("{}", "date", index=1, id="a"))
    assert len({item.call_id for item in translator.output_items() if isinstance(item, FunctionCall)}) == 2


def test_of_an_answer_that_was_cut_off_the_last_item_is_incomplete() -> None:
    translator = ChatStreamTranslator(draft())
    heard(
        translator,
        call_chunk("{}", "time", index=0, id="a"),
        call_chunk('{"ci', "weather", index=1, id="b"),
        chunk("length"),
    )
    translator.finish()
    answer = translator.answer()
    assert [item.status for item in answer.output] == [ItemStatus.COMPLETED, ItemStatus.INCOMPLETE]
    assert (answer.status, answer.incomplete_reason) == (ResponseStatus.INCOMPLETE, "max_output_tokens")


def test_the_last_usage_is_kept_whichever_chunk_brings_it() -> None:
    translator = ChatStreamTranslator(draft())
    assert translator.raw_usage is UNSET
    heard(translator, b'{"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}')
    assert translator.raw_usage == {"completion_tokens": 1}
    heard(
        translator,
        b'{"choices":[],"usage":{"completion_tokens":2}}',
        b'{"choices":[],"usage":null}',
        b"[DONE]",
    )
    assert translator.raw_usage == {"completion_tokens": 2}
    assert translator.answer().raw_usage == {"completion_tokens": 2}


def test_other_choices_are_passed_over() -> None:
    translator = ChatStreamTranslator(draft())
    assert (
        heard(translator, b'{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"stop"}]}') == []
    )
    assert translator.finish_reason is None


def test_an_error_in_a_chat_stream_fails_what_was_begun() -> None:
    translator = ChatStreamTranslator(draft())
    heard(translator, chunk(content="It was"), b'{"error":{"message":"out of memory"}}')
    assert translator.upstream_error == {"message": "out of memory"}
    terminal = translator.terminal(None, completed_at=105, stored=True)
    assert terminal.frame.startswith(b"event: response.failed\n")
    assert (terminal.response.status, terminal.response.usage) == (ResponseStatus.FAILED, None)
    [item] = terminal.response.output
    assert isinstance(item, Message)
    assert (item.status, item.content) == (ItemStatus.INCOMPLETE, (OutputText("It was"),))


def test_an_error_of_our_own_fails_a_stream_that_went_well() -> None:
    translator = ResponsesStreamTranslator(draft())
    error = ResponseError("upstream_timeout", "The model took too long.")
    terminal = translator.terminal(None, completed_at=105, stored=False, error=error)
    assert terminal.response.error == error
    assert terminal.response.store is False
    assert terminal.response.status is ResponseStatus.FAILED


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"[]", b'{"choices":7}', b'{"choices":[{"delta":{"content":7}}]}']
)
def test_a_chunk_that_cannot_be_read_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedUpstreamAnswer):
        ChatStreamTranslator(draft()).feed(data)


def relay() -> ResponsesStreamTranslator:
    translator = ResponsesStreamTranslator(draft())
    translator.start()
    return translator


def delta(sequence_number: int | None, text: str = "Hé") -> bytes:
    number = "" if sequence_number is None else f',"sequence_number":{sequence_number}'
    return f'{{"type":"response.output_text.delta",  "delta":"{text}"{number}}}'.encode()


def test_events_that_are_numbered_as_ours_are_relayed_byte_for_byte() -> None:
    translator = relay()
    assert (
        translator.feed(b'{"type":"response.created","sequence_number":0,"response":{"id":"theirs"}}') == []
    )
    assert (
        translator.feed(b'{"type":"response.in_progress","sequence_number":1,"response":{"id":"theirs"}}')
        == []
    )
    assert translator.feed(delta(2)) == [b"event: response.output_text.delta\ndata: " + delta(2) + b"\n\n"]
    assert translator.delivered_text_bytes == 3


@pytest.mark.parametrize("number", [None, 1, 7])
def test_events_that_are_numbered_otherwise_get_our_numbers(number: int | None) -> None:
    events = heard(relay(), delta(number), delta(number))
    assert [event["sequence_number"] for event in events] == [2, 3]
    assert [event["delta"] for event in events] == ["Hé", "Hé"]


def test_an_event_of_many_lines_is_put_on_one() -> None:
    [frame] = relay().feed(b'{"type":"response.output_text.delta",\n"delta":"a",\r\n"sequence_number":2}')
    assert frame.count(b"\n") == 3
    assert b"\r" not in frame


def test_the_upstreams_last_event_is_remembered_and_not_relayed() -> None:
    translator = relay()
    output = [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]}]
    response = {"id": "theirs", "output": output, "usage": {"input_tokens": 3}, "model": "inner-name"}
    last = json.dumps({"type": "response.completed", "sequence_number": 2, "response": response}).encode()
    assert translator.feed(last) == []
    assert translator.feed(b"[DONE]") == []
    assert translator.finish() == []
    assert (translator.finish_reason, translator.raw_usage) == ("completed", {"input_tokens": 3})
    terminal = translator.terminal(None, completed_at=105, stored=True)
    assert (terminal.response.id, terminal.response.model) == ("resp_1", "nusantara-base")
    [item] = terminal.response.output
    assert isinstance(item, Message)
    assert item.content == (OutputText("Hi"),)


def test_an_incomplete_response_keeps_the_upstreams_reason() -> None:
    translator = relay()
    translator.feed(
        b'{"type":"response.incomplete","response":{"output":[],"incomplete_details":{"reason":"content_filter"}}}'
    )
    answer = translator.answer()
    assert (answer.status, answer.incomplete_reason) == (ResponseStatus.INCOMPLETE, "content_filter")


def test_items_that_were_done_survive_an_upstream_that_vanishes() -> None:
    translator = relay()
    item = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]}
    heard(
        translator,
        json.dumps({"type": "response.output_item.done", "output_index": 0, "item": item}).encode(),
    )
    assert heard(translator, b'{"type":"response.output_item.done","output_index":1,"item":null}') != []
    assert [item.id for item in translator.output_items()] == ["msg_1"]
    assert translator.finish_reason is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"type":"error","message":"no"}', {"type": "error", "message": "no"}),
        (b'{"error":{"message":"no"}}', {"error": {"message": "no"}}),
        (
            b'{"type":"response.failed","response":{"error":{"code":"server_error"}}}',
            {"code": "server_error"},
        ),
        (b'{"type":"response.failed","response":{}}', {"code": "failed"}),
    ],
)
def test_an_upstreams_error_is_kept_for_the_log_and_fails_the_response(data: bytes, error: object) -> None:
    translator = relay()
    assert translator.feed(data) == []
    assert translator.upstream_error == error
    assert translator.answer().status is ResponseStatus.FAILED


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b'{"type":7}', b'{"type":"response.x\\ndata: forged"}', b'{"type":"response.completed"}',
        b'{"type":"response.completed","response":[]}', b'{"type":"response.output_item.done","item":7}',
        b'{"type":"error","message":"\xff"}',
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedUpstreamAnswer):
        relay().feed(data)
