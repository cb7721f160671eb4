"""What both dialects have in common: a request boiled down to a prompt, and the answer it is going to get.

An answer is decided whole before its first byte is sent, so its length and its usage are known at once and
faults can be placed to the token.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.clock import unix_seconds
from gateway.errors import InvalidValue
from gateway.upstream.catalogue import Dialect
from gateway.upstream.simulator.script import Fault, Script
from gateway.upstream.simulator.tokens import compose, split_words

COPIES_MAX = 8

SAMPLE_VALUES: dict[str, Any] = {
    "string": "Jakarta",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a request of either dialect asks for."""

    dialect: Dialect
    model: str
    is_stream: bool
    user_text: str
    input_tokens: int
    max_tokens: int | None
    script: Script
    tools: dict[str, dict[str, Any]]
    copies: int = 1
    sends_usage: bool = True
    sends_running_usage: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be said, word by word: one word is one token."""

    id: str
    created: int
    prompt: Prompt
    words: tuple[str, ...]
    tool_name: str | None
    is_cut: bool

    @property
    def text(self) -> str:
        """The whole text, or the whole arguments of the tool call."""
        return "".join(self.words)

    @property
    def input_tokens(self) -> int:
        """What the usage claims was read."""
        claimed = self.prompt.script.input_tokens
        return self.prompt.input_tokens if claimed is None else claimed

    @property
    def output_tokens(self) -> int:
        """What the usage claims was written, over all copies."""
        return len(self.words) * self.prompt.copies


def compose_answer(prompt: Prompt, *, id_prefix: str) -> Answer:
    """Decide the answer: a tool call if the script asks for one, else text; cut at the request's limit."""
    script = prompt.script
    tool_name = _tool(prompt)
    if tool_name is None:
        words = compose(prompt.user_text, script.output)
    else:
        words = split_words(_arguments(prompt.tools[tool_name]))
    if script.big_line is not None:
        words.insert(0, "x" * script.big_line)
    is_cut = prompt.max_tokens is not None and len(words) > prompt.max_tokens
    return Answer(
        id=f"{id_prefix}{secrets.token_hex(24)}",
        created=unix_seconds(),
        prompt=prompt,
        words=tuple(words[: prompt.max_tokens]),
        tool_name=tool_name,
        is_cut=is_cut or script.finish == "length",
    )


def deltas(answer: Answer, *, fault: Fault | None, sent: int) -> Iterator[tuple[str, int]]:
    """Cut one copy of the answer into pieces of text and their tokens, so that a fault falls between two.

    ``sent`` tokens were sent before, in earlier copies.
    """
    size = answer.prompt.script.chunk_tokens
    start = 0
    while start < len(answer.words):
        stop = start + size
        if fault is not None and sent + start < fault.after_tokens < sent + stop:
            stop = fault.after_tokens - sent
        piece = answer.words[start:stop]
        yield "".join(piece), len(piece)
        start += len(piece)


def positive_limit(value: object, name: str) -> int | None:
    """Check an output limit; ``InvalidValue`` naming the parameter if it is not a positive integer."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidValue(f"{name} must be a positive integer", param=name)
    return value


def content_text(content: object) -> str:
    """Join the text of a message's content, which is a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _tool(prompt: Prompt) -> str | None:
    """Return the tool that the script wants to be called, if the request offers it."""
    wanted = prompt.script.tool
    if wanted is None or not prompt.tools:
        return None
    if wanted not in prompt.tools:
        raise InvalidValue(f"sim directive.tool: {wanted} is not among the tools of the request")
    return wanted


def _arguments(parameters: dict[str, Any]) -> str:
    """Make up arguments that fit a tool's schema well enough."""
    properties = parameters.get("properties")
    if not isinstance(properties, dict):
        return "{}"
    return msgspec.json.format(
        msgspec.json.encode({name: _sample(schema) for name, schema in properties.items()}), indent=0
    ).decode()


def _sample(schema: object) -> object:
    """Make up a value of a JSON schema's type, or its first allowed one."""
    if not isinstance(schema, dict):
        return None
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    kind = schema.get("type")
    return SAMPLE_VALUES.get(kind) if isinstance(kind, str) else None
