"""Answers of upstreams that speak the Responses API, read as the items of our own response.

Upstreams leave out members that the schema wants and send null where it wants a list, so that items are read
leniently and written anew. Items of kinds that only an upstream's own tools make are left out: nobody can ask
for those tools here.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET

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
    SummaryText,
    with_id,
    written_bytes,
)
from gateway.responses.model import Answer, IncompleteReason, MalformedUpstreamAnswer, ResponseStatus


class UpstreamPart(msgspec.Struct, frozen=True, gc=False):
    """A part of an item, of any kind."""

    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: tuple[Any, ...] | None = None
    logprobs: tuple[Any, ...] | None = None


class UpstreamItem(msgspec.Struct, frozen=True, gc=False):
    """An item, of any kind."""

    type: str
    id: str | None = None
    status: str | None = None
    content: tuple[UpstreamPart, ...] | None = None
    summary: tuple[UpstreamPart, ...] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class UpstreamDetails(msgspec.Struct, frozen=True, gc=False):
    """Why an answer is incomplete."""

    reason: str | None = None


class UpstreamResponse(msgspec.Struct, frozen=True, gc=False):
    """What is read of an upstream's response object."""

    status: str | None = None
    output: tuple[UpstreamItem, ...] | None = None
    incomplete_details: UpstreamDetails | None = None
    error: Any = None
    usage: Any = UNSET


RESPONSE_DECODER: Final = msgspec.json.Decoder(UpstreamResponse)
ITEM_DECODER: Final[msgspec.json.Decoder[UpstreamItem | None]] = msgspec.json.Decoder(UpstreamItem | None)


def decode_response(data: bytes | msgspec.Raw) -> UpstreamResponse:
    """Decode a response object; ``MalformedUpstreamAnswer`` if it is none."""
    try:
        return RESPONSE_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamAnswer from error


def decode_item(data: bytes | msgspec.Raw) -> Item | None:
    """Decode an output item, or None for a kind that is left out; ``MalformedUpstreamAnswer`` if it is none."""
    try:
        item = ITEM_DECODER.decode(data)
        return None if item is None else item_of(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamAnswer from error


def output_from_responses(body: bytes) -> Answer:
    """Read a whole response; ``MalformedUpstreamAnswer`` if it has neither a status nor an error."""
    response = decode_response(body)
    if response.status is None and response.error is None:
        raise MalformedUpstreamAnswer
    output = items_of(response)
    return answer_of(
        response,
        response.status,
        output=output,
        delivered_text_bytes=sum(written_bytes(item) for item in output),
    )


def answer_of(
    response: UpstreamResponse,
    status: str | None,
    *,
    output: tuple[Item, ...],
    delivered_text_bytes: int,
) -> Answer:
    """Say how an answer came out; one that is neither complete nor incomplete failed."""
    match status:
        case "completed":
            ending, reason = ResponseStatus.COMPLETED, None
        case "incomplete":
            details = response.incomplete_details or UpstreamDetails()
            ending, reason = ResponseStatus.INCOMPLETE, details.reason or IncompleteReason.MAX_OUTPUT_TOKENS
        case _:
            ending, reason = ResponseStatus.FAILED, None
    return Answer(
        output=output,
        status=ending,
        incomplete_reason=reason,
        raw_usage=response.usage,
        upstream_error=response.error if ending is ResponseStatus.FAILED else None,
        delivered_text_bytes=delivered_text_bytes,
    )


def items_of(response: UpstreamResponse) -> tuple[Item, ...]:
    """Return the items of a response that are of a known kind."""
    items = (item_of(item) for item in response.output or ())
    return tuple(item for item in items if item is not None)


def item_of(item: UpstreamItem) -> Item | None:
    """Write an item anew, or return None for a kind that is left out."""
    match item.type:
        case "message":
            parts = (part_of(part) for part in item.content or ())
            content = tuple(part for part in parts if part is not None)
            return with_id(Message(item.id or "", status_of(item), Role.ASSISTANT, content))
        case "function_call":
            name, arguments = item.name or "", item.arguments or ""
            return with_id(
                FunctionCall(item.id or "", item.call_id or item.id or "", name, arguments, status_of(item))
            )
        case "reasoning":
            return with_id(
                ReasoningItem(
                    item.id or "",
                    summary=tuple(SummaryText(part.text or "") for part in item.summary or ()),
                    content=tuple(ReasoningText(part.text or "") for part in item.content or ()),
                    encrypted_content=UNSET if item.encrypted_content is None else item.encrypted_content,
                )
            )
        case _:
            return None


def part_of(part: UpstreamPart) -> MessagePart | None:
    """Write a part of a message anew, or return None for a kind that is left out."""
    match part.type:
        case "output_text":
            return OutputText(part.text or "", part.annotations or (), part.logprobs or ())
        case "refusal":
            return Refusal(part.refusal or "")
        case _:
            return None


def status_of(item: UpstreamItem) -> ItemStatus:
    """Tell how far an item came; what an upstream does not say is complete."""
    return ItemStatus.INCOMPLETE if item.status == "incomplete" else ItemStatus.COMPLETED
