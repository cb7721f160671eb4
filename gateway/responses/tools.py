"""Functions that a model may call, how it chooses among them, and the format its text must have."""

from collections.abc import Collection
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from gateway.errors import InvalidValue
from gateway.responses.fields import (
    read_array,
    read_boolean,
    read_choice,
    read_member,
    read_name,
    read_object,
    read_optional,
    read_string,
    wrong_type,
)

MAX_TOOLS: Final = 128
"""Open Responses' limit on the tools of one request."""

TOOL_CHOICES: Final = ("auto", "none", "required")
LEVELS: Final = ("low", "medium", "high")
"""Levels of verbosity and of reasoning effort."""

read_function_type = partial(read_choice, allowed=("function",))
read_choice_type = partial(read_choice, allowed=("function", "allowed_tools"))
read_format_type = partial(read_choice, allowed=("text", "json_object", "json_schema"))
read_mode = partial(read_choice, allowed=("auto", "required"))
read_level = partial(read_choice, allowed=LEVELS)


class FunctionTool(msgspec.Struct, frozen=True, gc=False, tag="function"):
    """A function that the model may ask the caller to call; ``parameters`` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(msgspec.Struct, frozen=True, gc=False, tag="function"):
    """The choice of one function by name."""

    name: str


class AllowedTools(msgspec.Struct, frozen=True, gc=False, tag="allowed_tools"):
    """The choice of some of the tools, and whether one of them must be called."""

    tools: tuple[FunctionChoice, ...]
    mode: str = "auto"


ToolChoice = str | FunctionChoice | AllowedTools


class PlainText(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """Text of any form."""


class JsonObject(msgspec.Struct, frozen=True, gc=False, tag="json_object"):
    """Text that is some JSON object."""


class JsonSchema(msgspec.Struct, frozen=True, gc=False, tag="json_schema"):
    """Text that is JSON of a given schema."""

    name: str
    description: str | None
    schema: dict[str, Any]
    strict: bool = False


TextFormat = PlainText | JsonObject | JsonSchema


class TextConfig(msgspec.Struct, frozen=True, gc=False):
    """How the model's text must look."""

    format: TextFormat = PlainText()
    verbosity: str | UnsetType = UNSET


def read_tools(value: object, path: str) -> tuple[FunctionTool, ...]:
    """Read the tools: functions with different names, at most ``MAX_TOOLS``."""
    values = read_array(value, path)
    if len(values) > MAX_TOOLS:
        raise InvalidValue(f"'{path}' must have at most {MAX_TOOLS} tools.", param=path)
    tools = tuple(read_tool(tool, f"{path}[{index}]") for index, tool in enumerate(values))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise InvalidValue("Two tools have this name.", param=f"{path}[{index}].name")
        seen.add(tool.name)
    return tools


def read_tool(value: object, path: str) -> FunctionTool:
    """Read one function."""
    tool = read_object(value, path)
    read_member(tool, "type", path, read_function_type)
    read_object(value, path, known=("type", *FunctionTool.__struct_fields__))
    return FunctionTool(
        name=read_member(tool, "name", path, read_name),
        description=read_optional(tool, "description", path, read_string),
        parameters=read_optional(tool, "parameters", path, read_object),
        strict=read_optional(tool, "strict", path, read_boolean),
    )


def read_tool_choice(value: object, path: str) -> ToolChoice:
    """Read how the model must choose; whether the names exist is for ``check_tool_choice``."""
    if isinstance(value, str):
        return read_choice(value, path, allowed=TOOL_CHOICES)
    if not isinstance(value, dict):
        raise wrong_type(value, path, "a string or an object")
    kind = read_member(value, "type", path, read_choice_type)
    return read_function_choice(value, path) if kind == "function" else read_allowed_tools(value, path)


def read_function_choice(value: object, path: str) -> FunctionChoice:
    """Read the choice of one function."""
    choice = read_object(value, path, known=("type", "name"))
    read_member(choice, "type", path, read_function_type)
    return FunctionChoice(read_member(choice, "name", path, read_name))


def read_allowed_tools(value: object, path: str) -> AllowedTools:
    """Read the choice of some of the tools."""
    choice = read_object(value, path, known=("type", "mode", "tools"))
    allowed = read_member(choice, "tools", path, read_array)
    if not 1 <= len(allowed) <= MAX_TOOLS:
        raise InvalidValue(f"'{path}.tools' must have 1 to {MAX_TOOLS} tools.", param=f"{path}.tools")
    return AllowedTools(
        tools=tuple(
            read_function_choice(tool, f"{path}.tools[{index}]") for index, tool in enumerate(allowed)
        ),
        mode=read_optional(choice, "mode", path, read_mode) or "auto",
    )


def check_tool_choice(choice: ToolChoice, tools: Collection[FunctionTool]) -> None:
    """Refuse a choice that needs tools which the request does not bring."""
    names = {tool.name for tool in tools}
    match choice:
        case FunctionChoice(name) if name not in names:
            raise InvalidValue("No tool has this name.", param="tool_choice.name")
        case AllowedTools(allowed):
            for index, tool in enumerate(allowed):
                if tool.name not in names:
                    raise InvalidValue("No tool has this name.", param=f"tool_choice.tools[{index}].name")
        case "required" if not names:
            raise InvalidValue("'tool_choice' can be 'required' only with 'tools'.", param="tool_choice")
        case _:
            pass


def read_text_config(value: object, path: str) -> TextConfig:
    """Read the format and the verbosity of the model's text."""
    text = read_object(value, path, known=TextConfig.__struct_fields__)
    verbosity = read_optional(text, "verbosity", path, read_level)
    return TextConfig(
        format=read_optional(text, "format", path, read_text_format) or PlainText(),
        verbosity=UNSET if verbosity is None else verbosity,
    )


def read_text_format(value: object, path: str) -> TextFormat:
    """Read one of the three formats."""
    text_format = read_object(value, path)
    kind = read_member(text_format, "type", path, read_format_type)
    if kind == "json_schema":
        return read_json_schema(text_format, path)
    read_object(value, path, known=("type",))
    return PlainText() if kind == "text" else JsonObject()


def read_json_schema(value: object, path: str) -> JsonSchema:
    """Read a format that is given by a JSON Schema."""
    text_format = read_object(value, path, known=("type", *JsonSchema.__struct_fields__))
    return JsonSchema(
        name=read_member(text_format, "name", path, read_name),
        description=read_optional(text_format, "description", path, read_string),
        schema=read_member(text_format, "schema", path, read_object),
        strict=bool(read_optional(text_format, "strict", path, read_boolean)),
    )
