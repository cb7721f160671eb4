"""Items of a response while a model writes them: each tells its beginning, its growth and its end as events."""

from collections.abc import Callable
from typing import Any

from gateway.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ContentPartAdded,
    ContentPartDone,
    EventWriter,
    OutputItem,
    OutputItemAdded,
    OutputItemDone,
    PartKind,
)
from gateway.responses.items import FunctionCall, ItemStatus, Message, ReasoningItem, Role, new_item_id

MakeTextItem = Callable[[str, ItemStatus, tuple[Any, ...]], Message | ReasoningItem]
"""Makes an item out of its id, its status and its parts."""


def make_message(item_id: str, status: ItemStatus, parts: tuple[Any, ...]) -> Message:
    """Make what the model says."""
    return Message(item_id, status, Role.ASSISTANT, parts)


def make_reasoning(item_id: str, status: ItemStatus, parts: tuple[Any, ...]) -> ReasoningItem:
    """Make what the model thinks, which has no status."""
    del status
    return ReasoningItem(item_id, content=parts)


class WritingText:
    """A message, or thoughts, made of parts: a part ends where another kind begins."""

    def __init__(self, events: EventWriter, output_index: int, make: MakeTextItem) -> None:
        self.make = make
        self._events = events
        self._output_index = output_index
        self._id = new_item_id(ReasoningItem if make is make_reasoning else Message)
        self._parts: list[Any] = []
        self._kind: PartKind | None = None
        self._chunks: list[str] = []
        self._closed: OutputItem | None = None
        added = make(self._id, ItemStatus.IN_PROGRESS, ())
        events.write(OutputItemAdded(events.next_number(), output_index, added))

    def add(self, kind: PartKind, delta: str) -> None:
        """Add a piece of text of a kind."""
        if kind is not self._kind:
            self._close_part()
            self._open_part(kind)
        self._chunks.append(delta)
        self._events.write(
            kind.delta(self._events.next_number(), self._id, self._output_index, len(self._parts), delta)
        )

    def close(self, status: ItemStatus) -> None:
        """End the item; once is enough."""
        if self._closed is None:
            self._close_part()
            self._closed = self.make(self._id, status, tuple(self._parts))
            self._events.write(OutputItemDone(self._events.next_number(), self._output_index, self._closed))

    def item(self) -> OutputItem:
        """Return the item as it is; one that is still open is incomplete."""
        if self._closed is not None:
            return self._closed
        open_part = () if self._kind is None else (self._kind.part("".join(self._chunks)),)
        return self.make(self._id, ItemStatus.INCOMPLETE, (*self._parts, *open_part))

    def _open_part(self, kind: PartKind) -> None:
        self._kind = kind
        self._events.write(
            ContentPartAdded(
                self._events.next_number(), self._id, self._output_index, len(self._parts), kind.part("")
            )
        )

    def _close_part(self) -> None:
        if self._kind is None:
            return
        text = "".join(self._chunks)
        part = self._kind.part(text)
        where = (self._id, self._output_index, len(self._parts))
        self._events.write(self._kind.done(self._events.next_number(), *where, text))
        self._events.write(ContentPartDone(self._events.next_number(), *where, part))
        self._parts.append(part)
        self._kind = None
        self._chunks = []


class WritingCall:
    """A function call, whose arguments come in pieces."""

    def __init__(self, events: EventWriter, output_index: int, call_id: str, name: str) -> None:
        self.name = name
        self.call_id = call_id
        self._events = events
        self._output_index = output_index
        self._id = new_item_id(FunctionCall)
        self._chunks: list[str] = []
        self._closed: OutputItem | None = None
        added = FunctionCall(self._id, call_id, name, "", ItemStatus.IN_PROGRESS)
        events.write(OutputItemAdded(events.next_number(), output_index, added))

    def add(self, delta: str) -> None:
        """Add a piece of the arguments."""
        self._chunks.append(delta)
        self._events.write(ArgumentsDelta(self._events.next_number(), self._id, self._output_index, delta))

    def close(self, status: ItemStatus) -> None:
        """End the call; once is enough."""
        if self._closed is None:
            call = self._call(status)
            self._closed = call
            self._events.write(
                ArgumentsDone(self._events.next_number(), self._id, self._output_index, call.arguments)
            )
            self._events.write(OutputItemDone(self._events.next_number(), self._output_index, call))

    def item(self) -> OutputItem:
        """Return the call as it is; one that is still open is incomplete."""
        return self._closed or self._call(ItemStatus.INCOMPLETE)

    def _call(self, status: ItemStatus) -> FunctionCall:
        return FunctionCall(self._id, self.call_id, self.name, "".join(self._chunks), status)
