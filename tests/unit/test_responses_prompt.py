"""The prompt of a request: its bound covers all that is sent on, and what is left of it when it is cut is a conversation."""

import json

import pytest

from gateway.metering.bounds import InputBound
from gateway.responses.items import FunctionCall, FunctionCallOutput, Item, Message
from gateway.responses.prompt import FRAME_BYTES, fit_window, prompt_bytes
from gateway.responses.request import ResponseRequest, parse_request

BYTE_BY_BYTE = InputBound.of(bytes_per_token_min=1.0, prompt_overhead_tokens=0)
LEFT_FOR_OUTPUT = 16


def request_of(*items: dict[str, object], truncation: str = "auto") -> ResponseRequest:
    body = {"model": "m", "input": items, "truncation": truncation}
    return parse_request(json.dumps(body).encode(), max_depth=64)


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def call(name: str) -> dict[str, object]:
    return {"type": "function_call", "call_id": name, "name": "weather", "arguments": "{}"}


def returned(name: str) -> dict[str, object]:
    return {"type": "function_call_output", "call_id": name, "output": "sunny"}


def cut_to(request: ResponseRequest, kept: int) -> tuple[Item, ...]:
    """Cut a request to a window that has room for its last ``kept`` items only."""
    room = prompt_bytes(request, request.input[-kept:])
    return fit_window(request, request.input, BYTE_BY_BYTE, context_window=room + LEFT_FOR_OUTPUT)


def shown(items: tuple[Item, ...]) -> list[str]:
    return [
        item.call_id if isinstance(item, (FunctionCall, FunctionCallOutput)) else item.content[0].text
        for item in items
        if isinstance(item, (FunctionCall, FunctionCallOutput, Message))
    ]


@pytest.mark.parametrize(
    "item",
    [
        call("call_" + "x" * 200),
        returned("call_" + "x" * 200),
        {"type": "reasoning", "summary": [], "encrypted_content": "x" * 200},
    ],
    ids=lambda item: item["type"],
)
def test_what_is_sent_on_beside_the_texts_of_an_item_is_in_the_bound_too(item: dict[str, object]) -> None:
    alone, with_item = request_of(user("Halo")), request_of(user("Halo"), item)
    grown = prompt_bytes(with_item, with_item.input) - prompt_bytes(alone, alone.input)
    assert grown >= FRAME_BYTES + 200


def test_the_oldest_items_are_dropped_until_the_rest_fits() -> None:
    request = request_of(user("one"), user("two"), user("three"))
    assert shown(cut_to(request, 2)) == ["two", "three"]


def test_the_last_item_stays_although_it_does_not_fit() -> None:
    request = request_of(user("one"), user("two"))
    assert shown(fit_window(request, request.input, BYTE_BY_BYTE, context_window=1)) == ["two"]


def test_nothing_is_dropped_where_that_was_not_asked_for() -> None:
    request = request_of(user("one"), user("two"), truncation="disabled")
    assert shown(cut_to(request, 1)) == ["one", "two"]


def test_what_a_function_returned_is_dropped_with_its_call_which_models_refuse_to_miss() -> None:
    request = request_of(user("asked"), call("a"), call("b"), returned("a"), returned("b"), user("next"))
    assert shown(cut_to(request, 4)) == ["b", "b", "next"]
    assert shown(cut_to(request, 2)) == ["next"]


def test_a_last_item_that_was_returned_stays_without_its_call() -> None:
    request = request_of(call("a"), returned("a"))
    assert shown(cut_to(request, 1)) == ["a"]
