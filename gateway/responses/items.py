"""The items that a conversation is made of: what went into a model and what came out of it.

Requests, stored turns, answers and stream events all carry these same structs, whose encoding is the item
schema of Open Responses and of OpenAI. Only text is spoken here: images and files are refused on the way in.
"""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.ids import random_label


class ItemStatus(StrEnum):
    """How far an item has come."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


class Role(StrEnum):
    """Who speaks a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    DEVELOPER = "developer"


class InputText(msgspec.Struct, frozen=True, gc=False, tag="input_text"):
    """Text that a model reads."""

    text: str


class OutputText(msgspec.Struct, frozen=True, gc=False, tag="output_text"):
    """Text that a model wrote."""

    text: str
    annotations: tuple[Any, ...] = ()
    logprobs: tuple[Any, ...] = ()


class Refusal(msgspec.Struct, frozen=True, gc=False, tag="refusal"):
    """What a model says when it declines."""

    refusal: str


class ReasoningText(msgspec.Struct, frozen=True, gc=False, tag="reasoning_text"):
    """Thoughts that a model wrote before its answer."""

    text: str


class SummaryText(msgspec.Struct, frozen=True, gc=False, tag="summary_text"):
    """A summary of a model's thoughts."""

    text: str


MessagePart = InputText | OutputText | Refusal
OutputPart = OutputText | Refusal | ReasoningText


class Message(msgspec.Struct, frozen=True, gc=False, tag="message"):
    """Something said by one side."""

    id: str
    status: ItemStatus
    role: Role
    content: tuple[MessagePart, ...]


class FunctionCall(msgspec.Struct, frozen=True, gc=False, tag="function_call"):
    """A model's wish to call one of the caller's functions; ``arguments`` is JSON text, as the model wrote it."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class FunctionCallOutput(msgspec.Struct, frozen=True, gc=False, tag="function_call_output"):
    """What the caller's function returned."""

    id: str
    call_id: str
    output: str | tuple[InputText, ...]
    status: ItemStatus


class ReasoningItem(msgspec.Struct, frozen=True, gc=False, tag="reasoning"):
    """What a model thought, in the open, in summary or encrypted."""

    id: str
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] = ()
    encrypted_content: str | UnsetType = UNSET


Item = Message | FunctionCall | FunctionCallOutput | ReasoningItem

ID_PREFIXES: dict[type, str] = {
    Message: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    ReasoningItem: "rs",
}
"""The beginning of the ids of each kind of item."""


def new_item_id(kind: type[Item]) -> str:
    """Make an unguessable id for an item of a kind."""
    return random_label(ID_PREFIXES[kind])


def with_id(item: Item) -> Item:
    """Give an item an id if its sender gave it none."""
    return item if item.id else msgspec.structs.replace(item, id=new_item_id(type(item)))


def utf8_length(text: str) -> int:
    """Count the bytes of a text without making them when it is ASCII, as most deltas are."""
    return len(text) if text.isascii() else len(text.encode())


def written_bytes(item: Item) -> int:
    """Count the UTF-8 bytes that a model wrote to make an item, for estimates of its tokens."""
    match item:
        case Message():
            return sum(utf8_length(text_of(part)) for part in item.content)
        case FunctionCall():
            return utf8_length(item.name) + utf8_length(item.arguments)
        case ReasoningItem():
            summary_bytes = sum(utf8_length(part.text) for part in item.summary)
            return summary_bytes + sum(utf8_length(part.text) for part in item.content)
        case _:
            return 0


def text_of(part: MessagePart) -> str:
    """Return what a part of a message says."""
    return part.refusal if isinstance(part, Refusal) else part.text
