"""An estimate by an upstream's own token counter: what it is given to count, and what is charged for it."""

import json

from gateway.ledger.model import EndReason, UsageSource
from gateway.metering.charge import Delivery, charge
from gateway.metering.usage import read_chat_usage
from gateway.proxy.chat_request import parse_chat_request
from gateway.responses.prompt import prompt_text
from gateway.responses.request import parse_request
from gateway.units import TokenCounts

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}


def asked_responses(**fields):
    request = parse_request(json.dumps({"model": "m", "input": "Halo", **fields}).encode(), max_depth=64)
    return prompt_text(request, request.input)


def asked_chat(*messages, **fields):
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    return parse_chat_request(body, max_depth=64, max_choices=8).prompt_text


def user(content):
    return {"role": "user", "content": content}


def charged(*, input_text, output_text, reserved_tokens):
    delivery = Delivery(
        reading=read_chat_usage(None, output_expected=True),
        delivered_bytes=400,
        counted=TokenCounts(input_text=input_text, output_text=output_text),
    )
    return charge(EndReason.COMPLETED, delivery, input_tokens=100, reserved_tokens=reserved_tokens)


def test_a_prompt_without_instructions_is_counted_as_it_is():
    assert asked_responses() == "Halo"
    assert asked_chat(user("Halo")) == "Halo"


def test_instructions_and_every_message_are_counted():
    assert asked_responses(instructions="Jawab singkat.") == "Jawab singkat.\nHalo"
    assert asked_chat({"role": "system", "content": "Jawab singkat."}, user("Halo")) == "Jawab singkat.\nHalo"


def test_parts_of_a_message_are_counted_like_one_text():
    parts = [{"type": "text", "text": "Halo"}, {"type": "text", "text": "dunia"}]
    assert asked_chat(user(parts)) == "Halo\ndunia"


def test_tools_are_counted_because_the_model_reads_them():
    tool = {"type": "function", "name": "weather", "parameters": WEATHER}
    assert '"name":"weather"' in asked_responses(tools=[tool])
    assert '"name":"weather"' in asked_chat(
        user("Halo"), tools=[{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    )


def test_the_shape_that_was_asked_for_is_counted():
    shape = {"type": "json_schema", "name": "town", "schema": WEATHER}
    assert '"city"' in asked_responses(text={"format": shape})
    chat_shape = {"type": "json_schema", "json_schema": {"name": "town", "schema": WEATHER}}
    assert '"city"' in asked_chat(user("Halo"), response_format=chat_shape)


def test_earlier_calls_of_the_model_are_counted():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ambon"}'}}
    messages = [user("Halo"), {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert asked_chat(*messages) == 'Halo\nweather\n{"city":"Ambon"}'


def test_what_the_upstream_counted_is_charged_as_an_estimate():
    result = charged(input_text=9, output_text=70, reserved_tokens=1000)
    assert (result.counts, result.source) == (
        TokenCounts(input_text=9, output_text=70),
        UsageSource.ESTIMATED,
    )


def test_a_count_above_the_reservation_is_charged_up_to_it():
    assert charged(input_text=90, output_text=70, reserved_tokens=100).counts == TokenCounts(
        input_text=30, output_text=70
    )
    assert charged(input_text=90, output_text=700, reserved_tokens=100).counts == TokenCounts(output_text=100)
