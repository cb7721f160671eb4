"""Every object and event of the Responses API is valid for Open Responses and for OpenAI's own client."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from jsonschema import Draft202012Validator
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.responses.chat_stream import ChatStreamTranslator
from gateway.responses.conversation import decode_items, encode_items, page_of_items
from gateway.responses.events import DONE, ErrorPayload, error_event
from gateway.responses.from_chat import output_from_chat
from gateway.responses.from_responses import output_from_responses
from gateway.responses.model import ENCODER, ResponseError, ResponseObject, end_response, new_response
from gateway.responses.request import ResponseRequest, parse_request
from gateway.responses.responses_stream import ResponsesStreamTranslator
from gateway.responses.stream import StreamTranslator
from gateway.units import TokenCounts

DOCUMENT = json.loads((Path(__file__).parent / "openresponses" / "openapi-2026-04-24.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
EVENT_SCHEMAS = {
    schema["properties"]["type"]["enum"][0]: name
    for name, schema in SCHEMAS.items()
    if name.endswith("StreamingEvent")
}
OPENAI_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

RESPONSE_ID = "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"
USAGE = TokenCounts(input_text=15, output_text=10, output_reasoning=2)
ASKED = {
    "model": "nusantara-base",
    "input": "Halo",
    "instructions": "Be brief.",
    "max_output_tokens": 1024,
    "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}, {"type": "function", "name": "time"}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]},
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "metadata": {"team": "a"},
    "user": "sari",
    "safety_identifier": "s",
    "prompt_cache_key": "p",
    "max_tool_calls": 3,
    "top_logprobs": 2,
    "presence_penalty": 0.5,
    "stream": True,
}  # fmt: skip


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}).encode()


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, "function": {"arguments": arguments, **name}, **more}


CHATS = {
    "text": [chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk("stop")],
    "tool calls": [
        chunk(content="Let me see."),
        chunk(tool_calls=[call(0, "", id="call_a", name="weather")]),
        chunk(tool_calls=[call(0, '{"city":'), call(1, "{}", id="call_b", name="time")]),
        chunk(tool_calls=[call(0, '"Medan"}')]),
        chunk("tool_calls"),
    ],
    "reasoning": [chunk(reasoning_content="Well, "), chunk(reasoning_content="yes."), chunk(content="Yes."), chunk("stop")],
    "refusal": [chunk(content="I am sorry."), chunk(refusal="I cannot."), chunk("stop")],
    "incomplete": [chunk(content="It was a dark and"), chunk("length")],
    "incomplete in thoughts": [chunk(reasoning="Let me think abou"), chunk("length")],
    "filtered": [chunk(content="Once"), chunk("content_filter")],
    "failed": [chunk(content="It was"), b'{"error":{"message":"out of memory"}}'],
    "nothing": [chunk("stop")],
}  # fmt: skip

CHAT_MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"content": "Hello"}, "stop"),
    "tool calls": (
        {"tool_calls": [{"id": "a", "function": {"name": "time", "arguments": "{}"}}]},
        "tool_calls",
    ),
    "reasoning": ({"reasoning_content": "Well.", "content": "Yes."}, "stop"),
    "refusal": ({"content": None, "refusal": "I cannot."}, "stop"),
    "incomplete": ({"content": "It was a dark and"}, "length"),
}


@cache
def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    )


def assert_valid(schema: str, document: object) -> None:
    assert [error.message for error in validator(schema).iter_errors(document)] == []


def asked(**changes: Any) -> ResponseRequest:
    return parse_request(json.dumps({**ASKED, **changes}).encode(), max_depth=64)


def draft(request: ResponseRequest | None = None) -> ResponseObject:
    return new_response(
        request or asked(), response_id=RESPONSE_ID, created_at=1741476542, default_temperature=0.7
    )


def stream_of(translator: StreamTranslator, upstream: Iterable[bytes]) -> list[bytes]:
    frames = translator.start()
    for data in upstream:
        frames += translator.feed(data)
    if translator.upstream_error is None:
        frames += translator.finish()
    terminal = translator.terminal(USAGE, completed_at=1741476545, stored=True)
    return [*frames, terminal.frame]


def events_of(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    """Decode frames, each of which must be one event that is called what its data says."""
    events = []
    for frame in frames:
        name, data = frame.removesuffix(b"\n\n").split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def chat_stream(kind: str) -> list[bytes]:
    return stream_of(ChatStreamTranslator(draft()), CHATS[kind])


def relayed_stream(kind: str) -> list[bytes]:
    """Stream what a Responses upstream would say, for which another translator's stream stands."""
    upstream = [frame.split(b"\ndata: ")[1].strip() for frame in chat_stream(kind)]
    return stream_of(ResponsesStreamTranslator(draft()), upstream)


STREAMS = [
    pytest.param(stream, kind, id=f"{stream.__name__} {kind}")
    for stream in (chat_stream, relayed_stream)
    for kind in CHATS
]


@pytest.mark.parametrize(("stream", "kind"), STREAMS)
def test_every_event_is_valid_and_numbered_without_a_gap(
    stream: Callable[[str], list[bytes]], kind: str
) -> None:
    events = events_of(stream(kind))
    for event in events:
        assert_valid(EVENT_SCHEMAS[event["type"]], event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@pytest.mark.parametrize(("stream", "kind"), STREAMS)
def test_every_event_before_the_last_is_strictly_one_of_openais(
    stream: Callable[[str], list[bytes]], kind: str
) -> None:
    for event in events_of(stream(kind))[:-1]:
        if not event["type"].startswith("response.reasoning."):  # Open Responses' own name
            assert OPENAI_EVENTS.validate_python(event).type == event["type"]


@pytest.mark.parametrize(("stream", "kind"), STREAMS)
def test_openais_client_accumulates_a_stream_into_the_object_of_its_last_event(
    stream: Callable[[str], list[bytes]], kind: str
) -> None:
    frames = stream(kind)
    last = events_of(frames)[-1]
    with (
        client_answering(b"".join([*frames, DONE]), "text/event-stream") as client,
        client.responses.stream(model="nusantara-base", input="Halo") as heard,
    ):
        events = [event for event in heard]  # noqa: C416 - a list() would ask for its length
    assert events[-1].type == last["type"]
    assert events[-1].response.id == RESPONSE_ID
    assert [item.type for item in events[-1].response.output] == [
        item["type"] for item in last["response"]["output"]
    ]


def test_openais_client_reads_the_text_of_a_stream_as_it_comes() -> None:
    body = b"".join([*chat_stream("text"), DONE])
    with (
        client_answering(body, "text/event-stream") as client,
        client.responses.stream(model="nusantara-base", input="Halo") as heard,
    ):
        deltas = [event.delta for event in heard if event.type == "response.output_text.delta"]
        final = heard.get_final_response()
    assert deltas == ["Hel", "lo"]
    assert final.output_text == "Hello"
    assert final.usage is not None
    assert final.usage.total_tokens == 27


@pytest.mark.parametrize("kind", CHAT_MESSAGES)
def test_an_object_made_from_a_chat_answer_is_valid_and_openais_client_reads_it(kind: str) -> None:
    message, finish_reason = CHAT_MESSAGES[kind]
    body = json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]}).encode()
    answer = output_from_chat(body)
    encoded = ENCODER.encode(end_response(draft(), answer, USAGE, completed_at=1741476545, stored=True))
    assert_valid("ResponseResource", json.loads(encoded))
    with client_answering(encoded, "application/json") as client:
        response = client.responses.create(model="nusantara-base", input="Halo")
    assert response.output_text == (message.get("content") or "")
    assert response.status == ("incomplete" if finish_reason == "length" else "completed")


def test_an_object_made_from_a_careless_upstreams_response_is_valid() -> None:
    body = {
        "status": "completed",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": None, "status": None},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi", "annotations": None, "logprobs": None}]},
            {"type": "function_call", "call_id": "call_1", "name": "time", "arguments": "{}", "status": None},
        ],
    }  # fmt: skip
    answer = output_from_responses(json.dumps(body).encode())
    ended = end_response(draft(), answer, USAGE, completed_at=1741476545, stored=False)
    assert_valid("ResponseResource", json.loads(ENCODER.encode(ended)))


def test_a_failed_object_is_valid() -> None:
    answer = output_from_chat(b'{"error":{"message":"secret"}}')
    error = ResponseError("upstream_timeout", "The model took too long.")
    ended = end_response(draft(), answer, None, completed_at=1741476545, stored=True, error=error)
    document = json.loads(ENCODER.encode(ended))
    assert_valid("ResponseResource", document)
    assert document["status"] == "failed"
    assert document["error"] == {"code": "upstream_timeout", "message": "The model took too long."}


def test_a_json_schema_is_echoed_although_open_responses_says_it_is_null() -> None:
    """The published document leaves only null for ``schema``; OpenAI's clients need the object there."""
    text_format = {"type": "json_schema", "name": "city", "schema": {"type": "object"}}
    document = json.loads(ENCODER.encode(draft(asked(text={"format": text_format}))))
    assert document["text"]["format"]["schema"] == {"type": "object"}
    document["text"]["format"]["schema"] = None
    assert_valid("ResponseResource", document)


def test_an_error_event_is_valid_for_both_specifications() -> None:
    error = ErrorPayload("The gateway is full.", "server_error", None, "overloaded")
    [event] = events_of([error_event(0, error)])
    assert_valid("ErrorStreamingEvent", event)
    assert OPENAI_EVENTS.validate_python(event).message == "The gateway is full."


def test_the_items_of_an_input_page_are_valid() -> None:
    given = [
        {"role": "user", "content": "Weather in Medan?"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Ask."}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "Rain"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    page = page_of_items(decode_items(encode_items(asked(input=given).input).decode()), order="asc")
    for item in json.loads(ENCODER.encode(page))["data"]:
        assert_valid("ItemField", item)


def test_the_seeded_example_has_no_field_that_the_object_lacks() -> None:
    plain = parse_request(b'{"model":"nusantara-base","input":"Halo","max_output_tokens":1024}', max_depth=64)
    answer = output_from_chat(
        b'{"choices":[{"message":{"content":"Hello! I\'m doing well, thank you for asking."},"finish_reason":"stop"}]}'
    )
    counts = TokenCounts(input_text=15, output_text=12)
    ended = end_response(draft(plain), answer, counts, completed_at=1741476545, stored=True)
    document = json.loads(ENCODER.encode(ended))
    document["output"][0]["id"] = "msg_abc123..."
    del document["output"][0]["content"][0]["logprobs"]
    assert {name: document[name] for name in EXAMPLE} == EXAMPLE
    assert set(document) - set(EXAMPLE) == OPEN_RESPONSES_FIELDS
    assert set(EXAMPLE) | OPEN_RESPONSES_FIELDS >= set(SCHEMAS["ResponseResource"]["required"])


def client_answering(body: bytes, content_type: str) -> openai.OpenAI:
    """Return OpenAI's client before a server that answers anything with one body."""

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, content=body)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="nsk_test", base_url="http://gateway.test/v1", http_client=http_client)


OPEN_RESPONSES_FIELDS = {
    "completed_at", "background", "service_tier", "max_tool_calls", "top_logprobs", "presence_penalty",
    "frequency_penalty", "safety_identifier", "prompt_cache_key",
}  # fmt: skip

EXAMPLE: dict[str, Any] = msgspec.json.decode(
    """{
    "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "object": "response",
    "created_at": 1741476542,
    "status": "completed",
    "error": null,
    "incomplete_details": null,
    "instructions": null,
    "max_output_tokens": 1024,
    "model": "nusantara-base",
    "output": [
        {
            "type": "message",
            "id": "msg_abc123...",
            "status": "completed",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "Hello! I'm doing well, thank you for asking.",
                    "annotations": []
                }
            ]
        }
    ],
    "parallel_tool_calls": true,
    "previous_response_id": null,
    "reasoning": {"effort": null, "summary": null},
    "store": true,
    "temperature": 0.7,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 15,
        "input_tokens_details": {"cached_tokens": 0, "text_tokens": 15, "audio_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0, "text_tokens": 12, "audio_tokens": 0},
        "total_tokens": 27
    },
    "user": null,
    "metadata": {}
    }"""
)
"""The example of the product's description of the object."""
