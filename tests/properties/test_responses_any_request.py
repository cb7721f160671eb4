"""No request, however strange, is answered with anything but a clear refusal or a checked request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.responses.model import ENCODER, new_response
from gateway.responses.request import READERS, ResponseRequest, parse_request
from gateway.responses.to_chat import chat_body
from gateway.responses.to_responses import responses_body
from gateway.runtime.documents import VALUES_MAX, decode_document

WORDS = [
    "message", "user", "assistant", "input_text", "output_text", "refusal", "function", "function_call", "reasoning",
    "function_call_output", "allowed_tools", "json_schema", "text", "auto", "low", "type", "role", "content", "name",
    "tools", "mode", "format", "schema", "arguments", "call_id", "output", "summary", "effort", "id", "status",
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(WORDS), children, max_size=6),
    max_leaves=12,
)  # fmt: skip
PLAUSIBLE: dict[str, Any] = {
    "input": [
        {"role": "developer", "content": "Halo"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "reasoning", "summary": [{"text": "Hm"}], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c", "name": "text", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    ],
    "tools": [{"type": "function", "name": "text", "parameters": {}, "strict": True}],
    "text": {"format": {"type": "json_schema", "name": "text", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "max_output_tokens": 5,
    "max_tokens": 5,
    "temperature": 1,
    "stream": True,
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "presence_penalty": -1,
}
requests = st.tuples(
    st.dictionaries(st.sampled_from(sorted(READERS)), json_values, max_size=2),
    st.lists(st.sampled_from(sorted(PLAUSIBLE))),
).map(lambda drawn: {"model": "m", "input": "Halo"} | {name: PLAUSIBLE[name] for name in drawn[1]} | drawn[0])


def accepted(body: bytes) -> ResponseRequest | None:
    try:
        return parse_request(body, max_depth=32)
    except RequestError:
        return None


@given(requests | json_values)
def test_any_json_is_read_or_refused_and_what_is_read_can_be_sent_on(document: Any) -> None:
    request = accepted(json.dumps(document).encode())
    if request is None:
        return
    limits = {"upstream_model": "m", "max_output_tokens": 16, "default_temperature": 0.7}
    assert json.loads(chat_body(request, request.input, continuous_usage=False, **limits))
    assert json.loads(responses_body(request, request.input, **limits))
    draft = new_response(request, response_id="resp_1", created_at=1, default_temperature=0.7)
    assert json.loads(ENCODER.encode(draft))["object"] == "response"


@given(st.binary(max_size=64) | st.text(alphabet='{}[]":,\\u0a1enft', max_size=64).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert accepted(body) is None


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
def test_a_document_is_accepted_exactly_up_to_the_depth_allowed(
    depth: int, max_depth: int, brackets: tuple[bytes, bytes]
) -> None:
    opening, closing = brackets
    body = b'{"wide":[[],[],{}],"deep":' + opening * depth + b"7" + closing * depth + b"}"
    if max(depth, 2) < max_depth:
        assert decode_document(body, max_depth=max_depth)["wide"] == [[], [], {}]
    else:
        with pytest.raises(RequestError, match="deeper"):
            decode_document(body, max_depth=max_depth)


@pytest.mark.parametrize(
    "wide", [[0] * VALUES_MAX, [[0, 0]] * (VALUES_MAX // 2), [{"a": {"b": 0}}] * (VALUES_MAX // 2)], ids=len
)
def test_a_document_of_too_many_values_is_refused_however_they_are_grouped(wide: list[object]) -> None:
    with pytest.raises(RequestError, match="more than 300,000 values"):
        decode_document(json.dumps({"wide": wide}).encode(), max_depth=64)


def test_a_document_of_as_many_values_as_allowed_is_read_and_so_is_a_longer_text() -> None:
    wide, text = [0] * (VALUES_MAX - 2), ",[{" * VALUES_MAX
    document = {"wide": wide, "text": text}
    assert decode_document(json.dumps(document).encode(), max_depth=64) == document
