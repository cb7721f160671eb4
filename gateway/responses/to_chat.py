"""A request in the words of Chat Completions, for upstreams that speak only that.

Nothing about the end user goes upstream: no ``user``, no identifiers, no metadata. What such upstreams do not
know is left out where it was not asked for, since some refuse fields that others ignore.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    Role,
    text_of,
)
from gateway.responses.model import ENCODER
from gateway.responses.request import ResponseRequest
from gateway.responses.tools import (
    AllowedTools,
    FunctionChoice,
    FunctionTool,
    JsonObject,
    JsonSchema,
    TextFormat,
    ToolChoice,
)


def chat_body(
    request: ResponseRequest,
    conversation: Sequence[Item],
    *,
    upstream_model: str,
    max_output_tokens: int,
    default_temperature: float,
    continuous_usage: bool,
) -> bytes:
    """Encode the body of ``POST /chat/completions``.

    ``conversation`` holds the earlier turns and the new input. ``max_output_tokens`` is the limit that was
    reserved, which may be less than what was asked. With ``continuous_usage`` every chunk tells the usage.
    """
    temperature = default_temperature if request.temperature is None else request.temperature
    body: dict[str, Any] = {
        "model": upstream_model,
        "messages": chat_messages(request.instructions, conversation),
        "max_tokens": max_output_tokens,
        "temperature": temperature,
        "top_p": request.top_p,
    }
    if request.stream:
        body["stream"] = True
        body["stream_options"] = stream_options(continuous_usage=continuous_usage)
    body |= chat_tools(request)
    if isinstance(request.text.format, (JsonObject, JsonSchema)):
        body["response_format"] = response_format(request.text.format)
    if request.reasoning.effort is not None:
        body["reasoning_effort"] = request.reasoning.effort
    if request.presence_penalty:
        body["presence_penalty"] = request.presence_penalty
    if request.frequency_penalty:
        body["frequency_penalty"] = request.frequency_penalty
    return ENCODER.encode(body)


def stream_options(*, continuous_usage: bool) -> dict[str, bool]:
    """Ask for usage at the end of a stream, and with ``continuous_usage`` in every chunk, as vLLM can."""
    options = {"include_usage": True}
    if continuous_usage:
        options["continuous_usage_stats"] = True
    return options


def chat_messages(instructions: str | None, conversation: Iterable[Item]) -> list[dict[str, Any]]:
    """Write a conversation as chat messages, the instructions first; thoughts are left out."""
    messages: list[dict[str, Any]] = []
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    for item in conversation:
        match item:
            case Message():
                messages.append(chat_message(item))
            case FunctionCall():
                add_tool_call(messages, item)
            case FunctionCallOutput():
                messages.append(tool_message(item))
            case _:
                pass
    return messages


def chat_message(message: Message) -> dict[str, Any]:
    """Write a message with its parts on lines of one string, which every upstream takes."""
    role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
    return {"role": role, "content": "\n".join(text_of(part) for part in message.content)}


def add_tool_call(messages: list[dict[str, Any]], call: FunctionCall) -> None:
    """Add a call to the assistant's turn that it belongs to, or begin one."""
    if not messages or messages[-1]["role"] != Role.ASSISTANT:
        messages.append({"role": Role.ASSISTANT, "content": None})
    messages[-1].setdefault("tool_calls", []).append(
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
    )


def tool_message(output: FunctionCallOutput) -> dict[str, Any]:
    """Write what a function returned."""
    return {"role": "tool", "tool_call_id": output.call_id, "content": returned_text(output.output)}


def returned_text(output: str | tuple[InputText, ...]) -> str:
    """Write what a function returned as one string."""
    return output if isinstance(output, str) else "\n".join(part.text for part in output)


def chat_tools(request: ResponseRequest) -> dict[str, Any]:
    """Write the tools and the choice among them; nothing where there are none.

    Chat has no list of allowed tools, so that only those are shown to the model.
    """
    tools: Sequence[FunctionTool] = request.tools
    if isinstance(request.tool_choice, AllowedTools):
        allowed = {tool.name for tool in request.tool_choice.tools}
        tools = [tool for tool in tools if tool.name in allowed]
    if not tools:
        return {}
    return {
        "tools": [{"type": "function", "function": chat_function(tool)} for tool in tools],
        "tool_choice": chat_tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
    }


def chat_function(tool: FunctionTool) -> dict[str, Any]:
    """Write a function with the members that it has."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function


def chat_tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    """Write the choice among the tools."""
    match choice:
        case FunctionChoice(name):
            return {"type": "function", "function": {"name": name}}
        case AllowedTools(mode=mode):
            return mode
        case _:
            return choice


def response_format(text_format: TextFormat) -> dict[str, Any]:
    """Write the format of the text."""
    if not isinstance(text_format, JsonSchema):
        return {"type": "json_object"}
    schema: dict[str, Any] = {
        "name": text_format.name,
        "schema": text_format.schema,
        "strict": text_format.strict,
    }
    if text_format.description is not None:
        schema["description"] = text_format.description
    return {"type": "json_schema", "json_schema": schema}
