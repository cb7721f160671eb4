"""The events of a streamed response, and their encoding as server-sent events.

Names and members are those of Open Responses; OpenAI's clients know them all, except that they spell the
two reasoning events ``response.reasoning_text.*`` and pass over the ones here.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.responses.items import (
    FunctionCall,
    Message,
    OutputPart,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
)
from gateway.responses.model import ENCODER

DONE: Final = b"data: [DONE]\n\n"
"""The end of a stream, as Open Responses asks."""

DONE_DATA: Final = b"[DONE]"
"""The payload of that end, which upstreams send too."""

OutputItem = Message | FunctionCall | ReasoningItem


class Event(msgspec.Struct, frozen=True, gc=False):
    """Any event; ``sequence_number`` rises by one from 0 within a stream.

    Lifecycle events carry the whole response object, which is encoded once for all who need it.
    """

    sequence_number: int


class Created(Event, frozen=True, gc=False, tag="response.created"):
    """The response exists."""

    response: msgspec.Raw


class InProgress(Event, frozen=True, gc=False, tag="response.in_progress"):
    """The response is being made."""

    response: msgspec.Raw


class Completed(Event, frozen=True, gc=False, tag="response.completed"):
    """The response is whole."""

    response: msgspec.Raw


class Incomplete(Event, frozen=True, gc=False, tag="response.incomplete"):
    """The response ended before its time."""

    response: msgspec.Raw


class Failed(Event, frozen=True, gc=False, tag="response.failed"):
    """The response failed."""

    response: msgspec.Raw


class OutputItemAdded(Event, frozen=True, gc=False, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class OutputItemDone(Event, frozen=True, gc=False, tag="response.output_item.done"):
    """An item is whole, or will not become it."""

    output_index: int
    item: OutputItem


class ContentPartAdded(Event, frozen=True, gc=False, tag="response.content_part.added"):
    """A part of an item begins."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputPart


class ContentPartDone(Event, frozen=True, gc=False, tag="response.content_part.done"):
    """A part of an item is whole."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputPart


class TextDelta(Event, frozen=True, gc=False, tag="response.output_text.delta"):
    """More text."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: tuple[()] = ()


class TextDone(Event, frozen=True, gc=False, tag="response.output_text.done"):
    """The whole text of a part."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: tuple[()] = ()


class RefusalDelta(Event, frozen=True, gc=False, tag="response.refusal.delta"):
    """More of a refusal."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class RefusalDone(Event, frozen=True, gc=False, tag="response.refusal.done"):
    """A whole refusal."""

    item_id: str
    output_index: int
    content_index: int
    refusal: str


class ReasoningDelta(Event, frozen=True, gc=False, tag="response.reasoning.delta"):
    """More thoughts."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class ReasoningDone(Event, frozen=True, gc=False, tag="response.reasoning.done"):
    """The whole text of thoughts."""

    item_id: str
    output_index: int
    content_index: int
    text: str


class ArgumentsDelta(Event, frozen=True, gc=False, tag="response.function_call_arguments.delta"):
    """More of the arguments of a function call."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Event, frozen=True, gc=False, tag="response.function_call_arguments.done"):
    """The whole arguments of a function call."""

    item_id: str
    output_index: int
    arguments: str


class ErrorPayload(msgspec.Struct, frozen=True, gc=False):
    """An error in the shape that every endpoint answers with."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEvent(Event, frozen=True, gc=False, tag="error"):
    """A failure that has no response; OpenAI's own members stand beside those of Open Responses."""

    error: ErrorPayload
    code: str
    message: str
    param: str | None


class PartKind(msgspec.Struct, frozen=True):
    """The struct of a kind of text, and the events that tell of it."""

    part: Callable[[str], OutputPart]
    delta: Callable[[int, str, int, int, str], Event]
    done: Callable[[int, str, int, int, str], Event]


TEXT: Final = PartKind(OutputText, TextDelta, TextDone)
REFUSAL: Final = PartKind(Refusal, RefusalDelta, RefusalDone)
REASONING: Final = PartKind(ReasoningText, ReasoningDelta, ReasoningDone)


def frame(event: Event) -> bytes:
    """Encode an event as one server-sent event, whose name is the event's type."""
    return sse(str(type(event).__struct_config__.tag), ENCODER.encode(event))


def sse(name: str, data: bytes) -> bytes:
    """Write one server-sent event; ``data`` must be on a single line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


class EventWriter:
    """Numbers the events of one stream, and gathers them until they are taken."""

    def __init__(self) -> None:
        self._sequence_number = 0
        self._frames: list[bytes] = []

    def next_number(self) -> int:
        """Return the number of the next event, and count it."""
        number = self._sequence_number
        self._sequence_number = number + 1
        return number

    def write(self, event: Event) -> None:
        """Add an event that carries ``next_number``."""
        self._frames.append(frame(event))

    def write_raw(self, name: str, data: bytes) -> None:
        """Add an event that is encoded already and carries ``next_number``."""
        self._frames.append(sse(name, data))

    def take(self) -> list[bytes]:
        """Return the events since the last time, encoded and in order."""
        frames, self._frames = self._frames, []
        return frames


def error_event(sequence_number: int, error: ErrorPayload) -> bytes:
    """Encode a failure that has no response to carry it."""
    return frame(ErrorEvent(sequence_number, error, error.code, error.message, error.param))
