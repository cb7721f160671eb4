"""What ``POST /v1/responses`` accepts, and how it refuses the rest."""

import json
from typing import Any

import pytest

from gateway.errors import InvalidJson, InvalidValue, MissingParameter, RequestError, UnknownParameter
from gateway.responses.items import InputText, OutputText, ReasoningItem, Refusal, Role
from gateway.responses.request import ResponseRequest, parse_request
from gateway.responses.tools import AllowedTools, FunctionChoice, JsonObject, JsonSchema, PlainText

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
SCHEMA = {"type": "json_schema", "name": "city", "schema": {"type": "object"}}


def parsed(**fields: Any) -> ResponseRequest:
    return parse_request(
        json.dumps({"model": "nusantara-base", "input": "Halo", **fields}).encode(), max_depth=16
    )


def refused(body: bytes | dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as refusal:
        parse_request(body if isinstance(body, bytes) else json.dumps(body).encode(), max_depth=16)
    return refusal.value


def test_a_short_request_gets_every_default() -> None:
    request = parsed()
    assert request.input[0].content == (InputText("Halo"),)
    assert request.temperature is None
    assert request.max_output_tokens is None
    assert not request.used_max_tokens_alias
    assert (request.top_p, request.tool_choice, request.truncation) == (1.0, "auto", "disabled")
    assert (request.stream, request.store, request.parallel_tool_calls) == (False, True, True)
    assert (request.tools, request.metadata, request.text.format) == ((), {}, PlainText())


def test_null_is_as_if_absent_everywhere_but_in_what_is_required() -> None:
    names = [
        "instructions", "max_output_tokens", "max_tokens", "temperature", "top_p", "stream", "tools", "tool_choice",
        "parallel_tool_calls", "truncation", "user", "metadata", "store", "previous_response_id", "text", "reasoning",
        "background", "service_tier", "max_tool_calls", "top_logprobs", "presence_penalty", "frequency_penalty",
        "safety_identifier", "prompt_cache_key", "include", "stream_options", "conversation",
    ]  # fmt: skip
    assert parsed(**dict.fromkeys(names)) == parsed()
    assert (
        parsed(text={"format": None, "verbosity": None}, reasoning={"effort": None, "summary": None})
        == parsed()
    )


def test_every_open_responses_setting_is_accepted() -> None:
    request = parsed(
        background=False,
        service_tier="flex",
        max_tool_calls=3,
        top_logprobs=5,
        presence_penalty=-2,
        frequency_penalty=0.5,
        safety_identifier="s",
        prompt_cache_key="p",
        include=["reasoning.encrypted_content"],
        stream_options={"include_obfuscation": True},
        truncation="auto",
    )
    assert (request.max_tool_calls, request.top_logprobs) == (3, 5)
    assert (request.presence_penalty, request.frequency_penalty) == (-2.0, 0.5)
    assert (request.safety_identifier, request.prompt_cache_key) == ("s", "p")
    assert request.include == ("reasoning.encrypted_content",)


def test_max_tokens_is_an_alias_that_is_remembered() -> None:
    alone = parsed(max_tokens=7)
    assert (alone.max_output_tokens, alone.used_max_tokens_alias) == (7, True)
    both = parsed(max_tokens=7, max_output_tokens=7)
    assert (both.max_output_tokens, both.used_max_tokens_alias) == (7, True)


def test_a_conversation_is_read_item_by_item() -> None:
    request = parsed(
        input=[
            {"role": "developer", "content": "Be brief."},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}],
                "id": "msg_1",
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "x"},
            {
                "role": "assistant",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}", "status": None},
            {"type": "function_call_output", "call_id": "c", "output": "Rain"},
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [{"type": "input_text", "text": "Sun"}],
            },
        ]
    )
    developer, user, reasoning, assistant, call, rain, sun = request.input
    assert (developer.role, developer.content) == (Role.DEVELOPER, (InputText("Be brief."),))
    assert (user.id, developer.id) == ("msg_1", "")
    assert reasoning == ReasoningItem("rs_1", encrypted_content="x")
    assert assistant.content == (OutputText("Hello"), Refusal("No."))
    assert (call.call_id, call.name, call.arguments) == ("c", "weather", "{}")
    assert (rain.output, sun.output) == ("Rain", (InputText("Sun"),))


def test_a_conversation_may_be_continued_without_new_input() -> None:
    request = parse_request(b'{"model":"m","previous_response_id":"resp_1"}', max_depth=16)
    assert request.input == ()


def test_tools_and_the_choice_among_them_are_read() -> None:
    tools = [TOOL, {"type": "function", "name": "time", "description": None, "strict": True}]
    assert [tool.name for tool in parsed(tools=tools).tools] == ["weather", "time"]
    assert parsed(tools=tools, tool_choice="required").tool_choice == "required"
    chosen = parsed(tools=tools, tool_choice={"type": "function", "name": "time"}).tool_choice
    assert chosen == FunctionChoice("time")
    allowed = {"type": "allowed_tools", "tools": [{"type": "function", "name": "time"}], "mode": "required"}
    assert parsed(tools=tools, tool_choice=allowed).tool_choice == AllowedTools(
        (FunctionChoice("time"),), "required"
    )


def test_the_three_formats_of_text_are_read() -> None:
    assert parsed(text={"format": {"type": "text"}}).text.format == PlainText()
    assert parsed(text={"format": {"type": "json_object"}}).text.format == JsonObject()
    assert parsed(text={"format": SCHEMA}).text.format == JsonSchema("city", None, {"type": "object"})


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"NaN", b'{"model":NaN}', b'{"temperature":1e999}', b'{"model":"\xff"}',
        b'{"model":"\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000, b'{"model":' + b"[" * 16 + b"]" * 16 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_of_reasonable_depth_is_refused(body: bytes) -> None:
    refusal = refused(body)
    assert isinstance(refusal, InvalidJson)
    assert refusal.param is None


def test_brackets_inside_text_are_no_depth() -> None:
    assert parsed(instructions="[" * 1000).instructions == "[" * 1000


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "Halo"}, "model"),
        ({"model": None, "input": "Halo"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": None}, "input"),
        ({"model": "m", "input": [{"role": "user"}]}, "input[0].content"),
        ({"model": "m", "input": [{"id": "msg_1"}]}, "input[0].type"),
        ({"model": "m", "input": [{"type": "message", "content": ""}]}, "input[0].role"),
        ({"model": "m", "input": [{"role": "user", "content": [{"text": ""}]}]}, "input[0].content[0].type"),
        (
            {"model": "m", "input": [{"type": "function_call", "name": "f", "arguments": ""}]},
            "input[0].call_id",
        ),
        ({"model": "m", "input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"model": "m", "input": "", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "m", "input": "", "tools": [{"name": "f"}]}, "tools[0].type"),
        ({"model": "m", "input": "", "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"model": "m", "input": "", "text": {"format": {}}}, "text.format.type"),
        (
            {"model": "m", "input": "", "text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
        ),
    ],
)
def test_what_is_missing_is_named(body: dict[str, Any], param: str) -> None:
    refusal = refused(body)
    assert isinstance(refusal, MissingParameter)
    assert refusal.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m", "input": "", "top_k": 1}, "top_k"),
        ({"model": "m", "input": "", "messages": []}, "messages"),
        ({"model": "m", "input": "", "x" * 100: 1}, "x" * 64),
        ({"model": "m", "input": "", "text": {"style": "x"}}, "text.style"),
        (
            {"model": "m", "input": "", "text": {"format": {"type": "text", "schema": {}}}},
            "text.format.schema",
        ),
        ({"model": "m", "input": "", "reasoning": {"budget": 1}}, "reasoning.budget"),
        (
            {"model": "m", "input": "", "stream_options": {"include_usage": True}},
            "stream_options.include_usage",
        ),
        ({"model": "m", "input": "", "tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
    ],
)
def test_what_is_unknown_is_named(body: dict[str, Any], param: str) -> None:
    refusal = refused(body)
    assert isinstance(refusal, UnknownParameter)
    assert refusal.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": "m\0"}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"input": 1}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": ["Halo"]}, "input[0]"),
        ({"input": [{"role": "user", "content": ""}] * 10_001}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": 7}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": "", "id": 7}]}, "input[0].id"),
        ({"input": [{"role": "user", "content": "", "status": "lost"}]}, "input[0].status"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "input_text", "text": 1}]}]}, "input[1].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": ["input_text"], "text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "call_id": "", "name": "f", "arguments": ""}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f g", "arguments": ""}]}, "input[0].name"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": {}}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]}, "input[0].output[0].type"),
        ({"input": [{"type": "reasoning", "summary": [{"text": 1}]}]}, "input[0].summary[0].text"),
        ({"instructions": 1}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 1.0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"max_output_tokens": "10"}, "max_output_tokens"),
        ({"max_output_tokens": 10**400}, "max_output_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2, "max_output_tokens": 3}, "max_tokens"),
        ({"temperature": 1.01}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"stream": 1}, "stream"),
        ({"store": "no"}, "store"),
        ({"parallel_tool_calls": 0}, "parallel_tool_calls"),
        ({"truncation": "middle"}, "truncation"),
        ({"user": "u" * 513}, "user"),
        ({"user": "\0"}, "user"),
        ({"user": 7}, "user"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"key": 1}}, "metadata.key"),
        ({"metadata": {"key": "v" * 513}}, "metadata.key"),
        ({"previous_response_id": "r" * 129}, "previous_response_id"),
        ({"previous_response_id": 1}, "previous_response_id"),
        ({"tools": {}}, "tools"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "name": ""}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "name": "n" * 65}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "name": "get weather\n"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{**TOOL, "strict": "yes"}]}, "tools[0].strict"),
        ({"tools": [{**TOOL, "description": 1}]}, "tools[0].description"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "time"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "time"}]}}, "tool_choice.tools[0].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "weather"}], "mode": "none"}}, "tool_choice.mode"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {**SCHEMA, "name": "a b"}}}, "text.format.name"),
        ({"text": {"format": {**SCHEMA, "schema": "{}"}}}, "text.format.schema"),
        ({"text": {"format": {**SCHEMA, "strict": 1}}}, "text.format.strict"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": "minimal"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"background": True}, "background"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": "0"}, "frequency_penalty"),
        ({"safety_identifier": "s" * 65}, "safety_identifier"),
        ({"prompt_cache_key": "p" * 65}, "prompt_cache_key"),
        ({"include": ["everything"]}, "include[0]"),
        ({"include": "everything"}, "include"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_obfuscation": 1}}, "stream_options.include_obfuscation"),
        ({"conversation": "conv_1"}, "conversation"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_its_path(fields: dict[str, Any], param: str) -> None:
    refusal = refused({"model": "m", "input": "Halo", **fields})
    assert isinstance(refusal, InvalidValue)
    assert refusal.param == param


def test_a_refusal_names_what_is_allowed_and_what_it_got() -> None:
    assert refused({"model": 7}).message == "'model' must be a string, not an integer."
    effort = refused({"model": "m", "reasoning": {"effort": "max"}})
    assert effort.message == "'reasoning.effort' must be one of 'low', 'medium', 'high'."
    image = refused({"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]})
    assert image.message == "The model takes text only: 'input_text'."


def test_a_refusal_never_repeats_what_was_sent() -> None:
    refusal = refused({"model": "m", "input": [{"role": "user", "content": [{"type": "my secret"}]}]})
    assert "secret" not in refusal.message
