"""A request in the words of the Responses API, for upstreams that speak it.

The state is the gateway's own: the upstream is sent the whole conversation and told to store nothing. Nothing
about the end user goes there: no ``user``, no identifiers, no metadata.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.responses.items import FunctionCall, FunctionCallOutput, Item, Message, ReasoningItem
from gateway.responses.model import ENCODER
from gateway.responses.request import ResponseRequest
from gateway.responses.tools import TextConfig


def responses_body(
    request: ResponseRequest,
    conversation: Sequence[Item],
    *,
    upstream_model: str,
    max_output_tokens: int,
    default_temperature: float,
) -> bytes:
    """Encode the body of ``POST /responses``.

    ``conversation`` holds the earlier turns and the new input; ``max_output_tokens`` is the limit that was
    reserved, which may be less than what was asked.
    """
    temperature = default_temperature if request.temperature is None else request.temperature
    body: dict[str, Any] = {
        "model": upstream_model,
        "input": upstream_items(conversation),
        "max_output_tokens": max_output_tokens,
        "temperature": temperature,
        "top_p": request.top_p,
        "truncation": request.truncation,
        "store": False,
        "stream": request.stream,
    }
    if request.tools:
        body["tools"] = request.tools
        body["tool_choice"] = request.tool_choice
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return ENCODER.encode(body | asked_settings(request))


def asked_settings(request: ResponseRequest) -> dict[str, Any]:
    """Return the settings that differ from their defaults; upstreams may not know them all."""
    asked = {
        "instructions": request.instructions,
        "text": None if request.text == TextConfig() else request.text,
        "reasoning": without_nulls(request.reasoning),
        "include": request.include,
        "max_tool_calls": request.max_tool_calls,
        "top_logprobs": request.top_logprobs,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    return {name: value for name, value in asked.items() if value}


def without_nulls(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the members of a struct that are set."""
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not None}


def upstream_items(conversation: Iterable[Item]) -> list[dict[str, Any]]:
    """Write items without our ids, which the upstream has never heard of.

    Thoughts go back only where they are encrypted: an upstream that stores nothing knows no others.
    """
    items: list[dict[str, Any]] = []
    for item in conversation:
        match item:
            case Message(role=role, content=content):
                items.append({"type": "message", "role": role, "content": content})
            case FunctionCall(call_id=call_id, name=name, arguments=arguments):
                items.append(
                    {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
                )
            case FunctionCallOutput(call_id=call_id, output=output):
                items.append({"type": "function_call_output", "call_id": call_id, "output": output})
            case ReasoningItem(id=item_id, summary=summary, encrypted_content=str(encrypted)):
                items.append(
                    {"type": "reasoning", "id": item_id, "summary": summary, "encrypted_content": encrypted}
                )
            case _:
                pass
    return items
