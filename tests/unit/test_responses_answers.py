"""How whole answers of upstreams are read, and what becomes of them in the object."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from gateway.responses.from_chat import output_from_chat
from gateway.responses.from_responses import output_from_responses
from gateway.responses.items import FunctionCall, ItemStatus, Message, OutputText, ReasoningItem, Refusal
from gateway.responses.model import (
    MalformedUpstreamAnswer,
    ResponseStatus,
    end_response,
    new_response,
    usage_block,
)
from gateway.responses.request import parse_request
from gateway.units import TokenCounts


def chat_answer(message: dict[str, Any], finish_reason: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], **more}).encode()


def test_a_chat_answer_becomes_thoughts_then_text_then_calls() -> None:
    tool_calls = [
        {"id": "a", "function": {"name": "time", "arguments": "{}"}},
        {"id": "a", "function": {"name": "weather", "arguments": None}},
        {"function": {"name": "date"}},
    ]
    message = {"reasoning_content": "Well.", "content": "Héllo", "refusal": "No.", "tool_calls": tool_calls}
    answer = output_from_chat(chat_answer(message, "tool_calls", usage={"prompt_tokens": 3}))
    thoughts, text, *calls = answer.output
    assert isinstance(thoughts, ReasoningItem)
    assert thoughts.content[0].text == "Well."
    assert isinstance(text, Message)
    assert text.content == (OutputText("Héllo"), Refusal("No."))
    assert [call.name for call in calls if isinstance(call, FunctionCall)] == ["time", "weather", "date"]
    assert len({call.call_id for call in calls if isinstance(call, FunctionCall)}) == 3
    assert answer.status is ResponseStatus.COMPLETED
    assert answer.raw_usage == {"prompt_tokens": 3}
    assert answer.delivered_text_bytes == len("Well.HélloNo.time{}weatherdate".encode())


@pytest.mark.parametrize(
    ("finish_reason", "status", "reason"),
    [
        ("stop", ResponseStatus.COMPLETED, None),
        ("tool_calls", ResponseStatus.COMPLETED, None),
        (None, ResponseStatus.COMPLETED, None),
        ("length", ResponseStatus.INCOMPLETE, "max_output_tokens"),
        ("content_filter", ResponseStatus.INCOMPLETE, "content_filter"),
    ],
)
def test_a_finish_reason_tells_the_status(
    finish_reason: str | None, status: ResponseStatus, reason: str | None
) -> None:
    answer = output_from_chat(chat_answer({"content": "It was"}, finish_reason))
    assert (answer.status, answer.incomplete_reason) == (status, reason)
    [item] = answer.output
    cut = status is ResponseStatus.INCOMPLETE
    assert item.status is (ItemStatus.INCOMPLETE if cut else ItemStatus.COMPLETED)


def test_usage_that_is_null_is_told_from_usage_that_is_missing() -> None:
    assert output_from_chat(chat_answer({"content": "a"}, usage=None)).raw_usage is None
    assert output_from_chat(chat_answer({"content": "a"})).raw_usage is UNSET


def test_an_empty_answer_has_no_items() -> None:
    assert output_from_chat(chat_answer({"content": ""})).output == ()


def test_only_the_first_choice_counts() -> None:
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    [item] = output_from_chat(json.dumps({"choices": choices}).encode()).output
    assert item.content == (OutputText("a"),)


def test_an_error_in_place_of_an_answer_fails_and_is_kept_for_the_log() -> None:
    answer = output_from_chat(b'{"error":{"message":"out of memory"},"usage":{"prompt_tokens":1}}')
    assert answer.status is ResponseStatus.FAILED
    assert answer.upstream_error == {"message": "out of memory"}
    assert answer.raw_usage == {"prompt_tokens": 1}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":0}]}', b'{"choices":[{"message":7}]}', b"[" * 10**5],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedUpstreamAnswer):
        output_from_chat(body)
    with pytest.raises(MalformedUpstreamAnswer):
        output_from_responses(body)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"status": "completed"}, ResponseStatus.COMPLETED, None),
        ({"status": "incomplete"}, ResponseStatus.INCOMPLETE, "max_output_tokens"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ResponseStatus.INCOMPLETE,
            "content_filter",
        ),
        ({"status": "failed", "error": {"code": "server_error"}}, ResponseStatus.FAILED, None),
        ({"status": "queued"}, ResponseStatus.FAILED, None),
        ({"error": {"message": "no"}}, ResponseStatus.FAILED, None),
    ],
)
def test_a_responses_answer_keeps_its_status(
    body: dict[str, Any], status: ResponseStatus, reason: str | None
) -> None:
    answer = output_from_responses(json.dumps(body).encode())
    assert (answer.status, answer.incomplete_reason) == (status, reason)
    assert answer.upstream_error == body.get("error")


def test_items_of_kinds_that_nobody_asked_for_are_left_out() -> None:
    output = [
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "message", "id": "msg_1", "status": "incomplete", "content": [{"type": "output_text", "text": "Hi"}, {"type": "audio"}]},
    ]  # fmt: skip
    answer = output_from_responses(json.dumps({"status": "completed", "output": output}).encode())
    [item] = answer.output
    assert item == Message("msg_1", ItemStatus.INCOMPLETE, "assistant", (OutputText("Hi"),))
    assert answer.delivered_text_bytes == 2


def test_usage_counts_cached_text_as_text_and_reasoning_apart() -> None:
    usage = usage_block(
        TokenCounts(
            input_text=1,
            input_cached=2,
            input_audio=4,
            output_text=8,
            output_reasoning=16,
            output_audio=32,
        )
    )
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 56, 63)
    cached = usage.input_tokens_details
    assert (cached.cached_tokens, cached.text_tokens, cached.audio_tokens) == (2, 3, 4)
    written = usage.output_tokens_details
    assert (written.reasoning_tokens, written.text_tokens, written.audio_tokens) == (16, 8, 32)


def test_the_object_echoes_the_request_and_takes_the_answer_in() -> None:
    body = b'{"model":"nusantara-base","input":"Halo","temperature":0,"metadata":{"a":"b"},"user":"sari","max_tokens":9}'
    draft = new_response(
        parse_request(body, max_depth=16), response_id="resp_1", created_at=100, default_temperature=0.7
    )
    assert (draft.temperature, draft.metadata, draft.user) == (0.0, {"a": "b"}, "sari")
    assert (draft.max_output_tokens, draft.status, draft.usage) == (9, ResponseStatus.IN_PROGRESS, None)

    cut = output_from_chat(chat_answer({"content": "It was"}, "length"))
    ended = end_response(draft, cut, None, completed_at=105, stored=False)
    assert (ended.status, ended.completed_at, ended.store) == (ResponseStatus.INCOMPLETE, None, False)
    assert ended.incomplete_details is not None
    assert ended.incomplete_details.reason == "max_output_tokens"
    assert ended.output == cut.output

    whole = end_response(
        draft, output_from_chat(chat_answer({"content": "a"})), None, completed_at=105, stored=True
    )
    assert (whole.status, whole.completed_at, whole.store) == (ResponseStatus.COMPLETED, 105, True)


def test_the_words_of_a_failing_upstream_are_not_passed_on() -> None:
    draft = new_response(
        parse_request(b'{"model":"m","input":""}', max_depth=16),
        response_id="r",
        created_at=1,
        default_temperature=1,
    )
    failed = output_from_chat(b'{"error":{"message":"key sk-123 is over its limit"}}')
    ended = end_response(draft, failed, None, completed_at=2, stored=True)
    assert ended.error is not None
    assert (ended.error.code, "sk-123" in ended.error.message) == ("upstream_error", False)
