"""The request of ``POST /v1/responses``: every field is known, checked, and refused by its name.

The fields are OpenAI's and those of Open Responses. Null is as if absent. Limits on numbers, lengths and
counts are theirs too, except the temperature, which goes from 0 to 1 here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from gateway.errors import InvalidValue
from gateway.responses.fields import (
    Reader,
    missing,
    read_array,
    read_boolean,
    read_choice,
    read_integer,
    read_label,
    read_number,
    read_object,
    read_optional,
    read_string,
    unknown,
)
from gateway.responses.items import Item
from gateway.responses.reading import read_input
from gateway.responses.tools import (
    FunctionTool,
    TextConfig,
    ToolChoice,
    check_tool_choice,
    read_level,
    read_text_config,
    read_tool_choice,
    read_tools,
)
from gateway.runtime.documents import decode_document
from gateway.units import TOKENS_MAX

MAX_MODEL_CHARS: Final = 256
MAX_USER_CHARS: Final = 512
MAX_METADATA_PAIRS: Final = 16
MAX_METADATA_KEY_CHARS: Final = 64
MAX_METADATA_VALUE_CHARS: Final = 512
MAX_RESPONSE_ID_CHARS: Final = 128
MAX_IDENTIFIER_CHARS: Final = 64
MAX_TOP_LOGPROBS: Final = 20
MAX_TOOL_CALLS: Final = 2**31 - 1
MAX_PENALTY: Final = 2.0

INCLUDABLE: Final = ("reasoning.encrypted_content", "message.output_text.logprobs")
SERVICE_TIERS: Final = ("auto", "default", "flex", "priority")
SUMMARIES: Final = ("concise", "detailed", "auto")


class ReasoningConfig(msgspec.Struct, frozen=True, gc=False):
    """How hard the model should think, and whether it should sum up its thoughts."""

    effort: str | None = None
    summary: str | None = None


class ResponseRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A checked request.

    ``temperature`` is None when the model's default applies, ``max_output_tokens`` when the model's limit
    does. ``used_max_tokens_alias`` tells that the caller must be told of a deprecation.
    """

    model: str
    input: tuple[Item, ...] = ()
    instructions: str | None = None
    max_output_tokens: int | None = None
    used_max_tokens_alias: bool = False
    temperature: float | None = None
    top_p: float = 1.0
    stream: bool = False
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    truncation: str = "disabled"
    user: str | None = None
    metadata: dict[str, str] = {}
    store: bool = True
    previous_response_id: str | None = None
    text: TextConfig = TextConfig()
    reasoning: ReasoningConfig = ReasoningConfig()
    include: tuple[str, ...] = ()
    max_tool_calls: int | None = None
    top_logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


def parse_request(body: bytes, *, max_depth: int) -> ResponseRequest:
    """Check a whole request.

    Raises ``InvalidJson``, ``MissingParameter``, ``InvalidValue`` or ``UnknownParameter``; all but the first
    name the field in ``param``, by its path.
    """
    document = decode_document(body, max_depth=max_depth)
    values: dict[str, Any] = {}
    for name, value in document.items():
        reader = READERS.get(name)
        if reader is None:
            raise unknown(name)
        if value is not None:
            values[name] = reader(value, name)
    for name in ACCEPTED_WITHOUT_EFFECT:
        values.pop(name, None)
    resolve_max_tokens(values)
    if "model" not in values:
        raise missing("model")
    if "input" not in values and "previous_response_id" not in values:
        raise missing("input")
    request = ResponseRequest(**values)
    check_tool_choice(request.tool_choice, request.tools)
    return request


def resolve_max_tokens(values: dict[str, Any]) -> None:
    """Replace the deprecated ``max_tokens`` by ``max_output_tokens``; they must not differ."""
    alias = values.pop("max_tokens", None)
    if alias is None:
        return
    if values.setdefault("max_output_tokens", alias) != alias:
        raise InvalidValue(
            "'max_tokens' is an alias of 'max_output_tokens' and must not differ from it.", param="max_tokens"
        )
    values["used_max_tokens_alias"] = True


def read_metadata(value: object, path: str) -> dict[str, str]:
    """Read the caller's own pairs of keys and values."""
    metadata = read_object(value, path)
    if len(metadata) > MAX_METADATA_PAIRS:
        raise InvalidValue(f"'{path}' must have at most {MAX_METADATA_PAIRS} pairs.", param=path)
    for key, text in metadata.items():
        if len(key) > MAX_METADATA_KEY_CHARS or "\0" in key:
            raise InvalidValue(
                f"Keys of '{path}' must have at most {MAX_METADATA_KEY_CHARS} characters and no U+0000.",
                param=path,
            )
        read_label(text, f"{path}.{key}", max_chars=MAX_METADATA_VALUE_CHARS)
    return metadata


def read_reasoning_config(value: object, path: str) -> ReasoningConfig:
    """Read how hard the model should think."""
    reasoning = read_object(value, path, known=ReasoningConfig.__struct_fields__)
    return ReasoningConfig(
        effort=read_optional(reasoning, "effort", path, read_level),
        summary=read_optional(reasoning, "summary", path, partial(read_choice, allowed=SUMMARIES)),
    )


def read_include(value: object, path: str) -> tuple[str, ...]:
    """Read what more the answer should hold."""
    return tuple(
        read_choice(name, f"{path}[{index}]", allowed=INCLUDABLE)
        for index, name in enumerate(read_array(value, path))
    )


def read_background(value: object, path: str) -> bool:
    """Read whether to answer later, which is not supported."""
    if read_boolean(value, path):
        raise InvalidValue("Answering in the background is not supported.", param=path)
    return False


def read_stream_options(value: object, path: str) -> None:
    """Check the options of a stream; deltas are not padded, whatever they say."""
    options = read_object(value, path, known=("include_obfuscation",))
    read_optional(options, "include_obfuscation", path, read_boolean)


def read_conversation(value: object, path: str) -> None:
    """Refuse a conversation object: conversations continue by ``previous_response_id``."""
    del value
    raise InvalidValue("Conversations are not supported: use 'previous_response_id'.", param=path)


READERS: Final[Mapping[str, Reader[object]]] = {
    "model": partial(read_label, min_chars=1, max_chars=MAX_MODEL_CHARS),
    "input": read_input,
    "instructions": read_string,
    "max_output_tokens": partial(read_integer, minimum=1, maximum=TOKENS_MAX),
    "max_tokens": partial(read_integer, minimum=1, maximum=TOKENS_MAX),
    "temperature": partial(read_number, minimum=0.0, maximum=1.0),
    "top_p": partial(read_number, minimum=0.0, maximum=1.0),
    "stream": read_boolean,
    "tools": read_tools,
    "tool_choice": read_tool_choice,
    "parallel_tool_calls": read_boolean,
    "truncation": partial(read_choice, allowed=("auto", "disabled")),
    "user": partial(read_label, max_chars=MAX_USER_CHARS),
    "metadata": read_metadata,
    "store": read_boolean,
    "previous_response_id": partial(read_label, max_chars=MAX_RESPONSE_ID_CHARS),
    "text": read_text_config,
    "reasoning": read_reasoning_config,
    "include": read_include,
    "max_tool_calls": partial(read_integer, minimum=1, maximum=MAX_TOOL_CALLS),
    "top_logprobs": partial(read_integer, minimum=0, maximum=MAX_TOP_LOGPROBS),
    "presence_penalty": partial(read_number, minimum=-MAX_PENALTY, maximum=MAX_PENALTY),
    "frequency_penalty": partial(read_number, minimum=-MAX_PENALTY, maximum=MAX_PENALTY),
    "safety_identifier": partial(read_label, max_chars=MAX_IDENTIFIER_CHARS),
    "prompt_cache_key": partial(read_label, max_chars=MAX_IDENTIFIER_CHARS),
    "background": read_background,
    "service_tier": partial(read_choice, allowed=SERVICE_TIERS),
    "stream_options": read_stream_options,
    "conversation": read_conversation,
}

ACCEPTED_WITHOUT_EFFECT: Final = ("background", "service_tier", "stream_options")
"""Checked, and then nothing depends on them: there is one tier, and every answer is made at once."""
