"""What an upstream is sent for a request, in either of the two dialects."""

import json
from typing import Any

from gateway.responses.request import ResponseRequest, parse_request
from gateway.responses.to_chat import chat_body
from gateway.responses.to_responses import responses_body

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tell it.",
    "parameters": {"type": "object"},
    "strict": True,
}
TIME = {"type": "function", "name": "time"}


def asked(**fields: Any) -> ResponseRequest:
    return parse_request(
        json.dumps({"model": "public-name", "input": "Halo", **fields}).encode(), max_depth=64
    )


def chat(*, continuous_usage: bool = False, **fields: Any) -> dict[str, Any]:
    request = asked(**fields)
    body = chat_body(
        request,
        request.input,
        upstream_model="inner-name",
        max_output_tokens=99,
        default_temperature=0.7,
        continuous_usage=continuous_usage,
    )
    return json.loads(body)


def responses(**fields: Any) -> dict[str, Any]:
    request = asked(**fields)
    body = responses_body(
        request, request.input, upstream_model="inner-name", max_output_tokens=99, default_temperature=0.7
    )
    return json.loads(body)


PRIVATE = {
    "user": "sari",
    "metadata": {"team": "a"},
    "safety_identifier": "s",
    "prompt_cache_key": "p",
    "service_tier": "flex",
    "previous_response_id": "resp_1",
    "store": True,
}


def test_a_plain_request_to_a_chat_upstream_has_only_what_every_server_knows() -> None:
    assert chat(max_output_tokens=5000, **PRIVATE) == {
        "model": "inner-name",
        "messages": [{"role": "user", "content": "Halo"}],
        "max_tokens": 99,
        "temperature": 0.7,
        "top_p": 1.0,
    }


def test_a_plain_request_to_a_responses_upstream_stores_and_tells_nothing() -> None:
    assert responses(max_output_tokens=5000, **PRIVATE) == {
        "model": "inner-name",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Halo"}]}],
        "max_output_tokens": 99,
        "temperature": 0.7,
        "top_p": 1.0,
        "truncation": "disabled",
        "store": False,
        "stream": False,
    }


def test_a_temperature_of_zero_is_not_the_default() -> None:
    assert chat(temperature=0)["temperature"] == 0.0
    assert responses(temperature=0)["temperature"] == 0.0


def test_a_chat_stream_is_asked_for_its_usage() -> None:
    body = chat(stream=True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    options = chat(stream=True, continuous_usage=True)["stream_options"]
    assert options == {"include_usage": True, "continuous_usage_stats": True}


def test_a_conversation_becomes_chat_messages() -> None:
    body = chat(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Speak English."},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "Two"}],
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hidden"}]},
            {"role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"city":"Medan"}'},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "b", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "Rain"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [{"type": "input_text", "text": "Noon"}],
            },
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ],
    )
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Speak English."},
        {"role": "user", "content": "One\nTwo"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Medan"}'},
                },
                {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "Rain"},
        {"role": "tool", "tool_call_id": "b", "content": "Noon"},
        {"role": "assistant", "content": "No."},
    ]


def test_a_call_after_a_question_begins_a_turn_of_the_assistant() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "time", "arguments": "{}"}
    messages = chat(input=[{"role": "user", "content": "When?"}, call])["messages"]
    assert messages[1]["role"] == "assistant"
    assert messages[1]["content"] is None
    assert len(messages[1]["tool_calls"]) == 1


def test_tools_are_written_the_way_of_chat() -> None:
    body = chat(
        tools=[WEATHER, TIME], tool_choice={"type": "function", "name": "time"}, parallel_tool_calls=False
    )
    function = {key: value for key, value in WEATHER.items() if key != "type"}
    assert body["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "time"}},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "time"}}
    assert body["parallel_tool_calls"] is False


def test_only_allowed_tools_are_shown_to_a_chat_upstream() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [TIME]}
    body = chat(tools=[WEATHER, TIME], tool_choice=choice)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["time"]
    assert body["tool_choice"] == "required"


def test_a_choice_among_no_tools_is_not_sent() -> None:
    for body in (chat(tool_choice="none", parallel_tool_calls=False), responses(tool_choice="none")):
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_formats_are_written_the_way_of_chat() -> None:
    assert "response_format" not in chat(text={"format": {"type": "text"}, "verbosity": "low"})
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    schema = {"name": "city", "schema": {"type": "object"}, "strict": True}
    assert chat(text={"format": {"type": "json_schema", **schema}})["response_format"] == {
        "type": "json_schema",
        "json_schema": schema,
    }


def test_settings_that_were_asked_for_reach_both_kinds_of_upstream() -> None:
    settings = {"reasoning": {"effort": "high"}, "presence_penalty": 1, "frequency_penalty": -1}
    body = chat(**settings)
    assert (body["reasoning_effort"], body["presence_penalty"], body["frequency_penalty"]) == (
        "high",
        1.0,
        -1.0,
    )
    more = {"instructions": "Be brief.", "text": {"format": {"type": "json_object"}}, "top_logprobs": 3}
    assert settings | more == {name: responses(**settings, **more)[name] for name in settings | more}


def test_a_responses_upstream_gets_items_without_our_ids_and_only_encrypted_thoughts() -> None:
    body = responses(
        input=[
            {"role": "user", "content": "Hi", "id": "msg_1"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "reasoning", "id": "rs_2", "summary": []},
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "id": "fco_1", "call_id": "a", "output": "Noon"},
        ]
    )
    assert body["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "a", "name": "time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "Noon"},
    ]


def test_tools_reach_a_responses_upstream_as_they_came() -> None:
    body = responses(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    assert body["tools"] == [WEATHER]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
