"""Streamed answers of upstreams that speak the Responses API, relayed as events of our own response.

Events of the response's life carry the upstream's object, so that ours take their place; all others are passed
on byte for byte. Only where the upstream's numbers do not fit ours is an event written anew.
"""

import re
from typing import Any, Final

import msgspec

from gateway.responses.events import DONE_DATA
from gateway.responses.from_responses import (
    UpstreamResponse,
    answer_of,
    decode_item,
    decode_response,
    items_of,
)
from gateway.responses.items import Item, utf8_length
from gateway.responses.model import ENCODER, Answer, MalformedUpstreamAnswer, ResponseObject, ResponseStatus
from gateway.responses.stream import StreamTranslator

OPENING_EVENTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
TERMINAL_EVENTS: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
"""The events that end a response, and the status that each stands for."""

EVENT_NAME: Final = re.compile(r"[a-z0-9_.]{1,128}", re.ASCII)
"""What an event may be called; anything else could break out of its line."""


class UpstreamEvent(msgspec.Struct, frozen=True, gc=False):
    """The little that is read of an event; what is not needed stays undecoded."""

    type: str = "error"
    sequence_number: int | None = None
    delta: Any = None
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


EVENT_DECODER: Final = msgspec.json.Decoder(UpstreamEvent)
WHOLE_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


class ResponsesStreamTranslator(StreamTranslator):
    """Makes a response of our own out of the events of an upstream's."""

    def __init__(self, draft: ResponseObject) -> None:
        super().__init__(draft)
        self._response = UpstreamResponse()
        self._items: list[Item] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Relay one event, unless it is about the response as a whole; the last one is remembered."""
        if data == DONE_DATA:
            return []
        event = decode_event(data)
        if isinstance(event.delta, str):
            self.delivered_text_bytes += utf8_length(event.delta)
        match event.type:
            case name if name in OPENING_EVENTS:
                return []
            case name if name in TERMINAL_EVENTS:
                self._end(TERMINAL_EVENTS[name], event)
                return []
            case "error":
                self.upstream_error = decode_whole(data)
                return []
            case "response.output_item.done":
                item = decode_item(event.item)
                self._items += [] if item is None else [item]
        self._relay(event, data)
        return self._events.take()

    def finish(self) -> list[bytes]:
        """Return nothing: the upstream closes its items itself."""
        return []

    def output_items(self) -> tuple[Item, ...]:
        """Return the items of the upstream's last event, or those that were done before it came."""
        return items_of(self._response) or tuple(self._items)

    def answer(self) -> Answer:
        """Return how the answer came out, judged by the upstream's last event."""
        answer = answer_of(
            self._response,
            self.finish_reason,
            output=self.output_items(),
            delivered_text_bytes=self.delivered_text_bytes,
        )
        if self.upstream_error is None:
            return answer
        return msgspec.structs.replace(
            answer, status=ResponseStatus.FAILED, upstream_error=self.upstream_error
        )

    def _end(self, status: str, event: UpstreamEvent) -> None:
        self._response = decode_response(event.response)
        self.finish_reason = status
        self.raw_usage = self._response.usage
        if status == "failed":
            self.upstream_error = self._response.error or {"code": "failed"}

    def _relay(self, event: UpstreamEvent, data: bytes) -> None:
        number = self._events.next_number()
        on_one_line = b"\n" not in data and b"\r" not in data
        if event.sequence_number != number or not on_one_line:
            data = ENCODER.encode(decode_whole(data) | {"sequence_number": number})
        self._events.write_raw(event.type, data)


def decode_event(data: bytes) -> UpstreamEvent:
    """Read the head of an event; ``MalformedUpstreamAnswer`` if it cannot be read.

    An error that comes without a type is read as one: upstreams send it in the shape of an error answer.
    """
    try:
        event = EVENT_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamAnswer from error
    if EVENT_NAME.fullmatch(event.type) is None:
        raise MalformedUpstreamAnswer
    return event


def decode_whole(data: bytes) -> dict[str, Any]:
    """Decode all of an event whose head was read; ``MalformedUpstreamAnswer`` where its depths cannot be."""
    try:
        document: dict[str, Any] = WHOLE_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamAnswer from error
    return document
