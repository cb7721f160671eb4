"""Answers of upstreams that speak Chat Completions, read as the items of a response.

Only what a response is made of is decoded, and only the first choice: the gateway never asks for more.
Reasoning has two names in the wild, ``reasoning_content`` and ``reasoning``; both are understood.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from gateway.ids import random_label
from gateway.responses.items import (
    FunctionCall,
    Item,
    ItemStatus,
    Message,
    MessagePart,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
    Role,
    new_item_id,
    written_bytes,
)
from gateway.responses.model import Answer, IncompleteReason, MalformedUpstreamAnswer, ResponseStatus

INCOMPLETE_REASONS: Final = {
    "length": IncompleteReason.MAX_OUTPUT_TOKENS,
    "content_filter": IncompleteReason.CONTENT_FILTER,
}
"""The finish reasons that leave an answer incomplete; after any other it is complete."""


class ChatFunction(msgspec.Struct, frozen=True, gc=False):
    """The function of a call, or a piece of its arguments."""

    name: str | None = None
    arguments: str | None = None


class ChatToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call of a function, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: ChatFunction | None = None


class ChatMessage(msgspec.Struct, frozen=True, gc=False):
    """What the model wrote, whole or in a piece."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ChatToolCall, ...] | None = None

    @property
    def thoughts(self) -> str | None:
        """What the model thought, by whichever name."""
        return self.reasoning_content or self.reasoning


class ChatChoice(msgspec.Struct, frozen=True, gc=False):
    """One of the answers: ``message`` is whole, ``delta`` a piece."""

    index: int = 0
    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    finish_reason: str | None = None


class ChatCompletion(msgspec.Struct, frozen=True, gc=False):
    """A whole answer or a chunk of one; an error comes in place of the choices."""

    choices: tuple[ChatChoice, ...] | None = None
    usage: Any = UNSET
    error: Any = None


CHAT_DECODER: Final = msgspec.json.Decoder(ChatCompletion)


def decode_chat(data: bytes) -> ChatCompletion:
    """Decode an answer or a chunk; ``MalformedUpstreamAnswer`` if it is neither."""
    try:
        return CHAT_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamAnswer from error


def output_from_chat(body: bytes) -> Answer:
    """Read a whole chat completion; ``MalformedUpstreamAnswer`` if it has neither an answer nor an error."""
    completion = decode_chat(body)
    if completion.error is not None:
        return Answer(
            output=(),
            status=ResponseStatus.FAILED,
            raw_usage=completion.usage,
            upstream_error=completion.error,
        )
    choice = next((choice for choice in completion.choices or () if choice.index == 0), None)
    if choice is None or choice.message is None:
        raise MalformedUpstreamAnswer
    output = items_of_message(choice.message, cut=choice.finish_reason in INCOMPLETE_REASONS)
    return Answer(
        output=output,
        status=status_after(choice.finish_reason),
        incomplete_reason=INCOMPLETE_REASONS.get(choice.finish_reason or ""),
        raw_usage=completion.usage,
        delivered_text_bytes=sum(written_bytes(item) for item in output),
    )


def status_after(finish_reason: str | None) -> ResponseStatus:
    """Tell the status of an answer from the reason for its ending."""
    return ResponseStatus.INCOMPLETE if finish_reason in INCOMPLETE_REASONS else ResponseStatus.COMPLETED


def items_of_message(message: ChatMessage, *, cut: bool) -> tuple[Item, ...]:
    """Return thoughts, then text, then calls; of an answer that was cut off, the last item is incomplete."""
    items: list[Item] = []
    if message.thoughts:
        items.append(ReasoningItem(new_item_id(ReasoningItem), content=(ReasoningText(message.thoughts),)))
    parts = parts_of_message(message)
    if parts:
        items.append(Message(new_item_id(Message), ItemStatus.COMPLETED, Role.ASSISTANT, parts))
    seen: set[str] = set()
    for call in message.tool_calls or ():
        function = call.function or ChatFunction()
        items.append(
            FunctionCall(
                new_item_id(FunctionCall),
                unique_call_id(call.id, seen),
                function.name or "",
                function.arguments or "",
                ItemStatus.COMPLETED,
            )
        )
    if cut and items and not isinstance(items[-1], ReasoningItem):
        items[-1] = msgspec.structs.replace(items[-1], status=ItemStatus.INCOMPLETE)
    return tuple(items)


def parts_of_message(message: ChatMessage) -> tuple[MessagePart, ...]:
    """Return what was said, and what was declined."""
    text = (OutputText(message.content),) if message.content else ()
    refusal = (Refusal(message.refusal),) if message.refusal else ()
    return (*text, *refusal)


def unique_call_id(given: str | None, seen: set[str]) -> str:
    """Return the upstream's id of a call, or a new one where it is missing or taken; it is added to ``seen``.

    Clients tell the calls of an answer apart by this id alone, and some upstreams send none.
    """
    call_id = given if given and given not in seen else random_label("call")
    seen.add(call_id)
    return call_id
