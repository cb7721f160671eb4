"""What the translators of streamed answers have in common: one of them a request, fed event by event.

The caller sends on what ``start``, ``feed`` and ``finish`` return, and holds back what ``terminal`` returns
until the ledger has its entry. Nothing here waits, reads or writes anywhere.
"""

from abc import ABC, abstractmethod
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.responses.events import Completed, Created, EventWriter, Failed, Incomplete, InProgress, frame
from gateway.responses.items import Item
from gateway.responses.model import (
    ENCODER,
    Answer,
    ResponseError,
    ResponseObject,
    ResponseStatus,
    end_response,
)
from gateway.units import TokenCounts

TERMINAL_EVENTS: Final[dict[ResponseStatus, type[Completed | Incomplete | Failed]]] = {
    ResponseStatus.COMPLETED: Completed,
    ResponseStatus.INCOMPLETE: Incomplete,
    ResponseStatus.FAILED: Failed,
}


class Terminal(msgspec.Struct, frozen=True):
    """The last event of a stream, and the object in it: as a struct and as it was encoded for the event."""

    frame: bytes
    response: ResponseObject
    response_json: bytes


class StreamTranslator(ABC):
    """Turns the events of an upstream into those of one response.

    Attributes:
        raw_usage: the last usage block seen, or ``UNSET``.
        upstream_error: the error that the upstream sent in place of an answer, or None; for the log.
        delivered_text_bytes: UTF-8 bytes of all that the model wrote so far, thoughts and arguments included.
        finish_reason: what the upstream called its ending, or None while it has not ended.
    """

    def __init__(self, draft: ResponseObject) -> None:
        self.raw_usage: object = UNSET
        self.upstream_error: object = None
        self.delivered_text_bytes = 0
        self.finish_reason: str | None = None
        self._draft = draft
        self._events = EventWriter()

    def start(self) -> list[bytes]:
        """Return the opening events, before anything was heard from the upstream."""
        draft_json = msgspec.Raw(ENCODER.encode(self._draft))
        self._events.write(Created(self._events.next_number(), draft_json))
        self._events.write(InProgress(self._events.next_number(), draft_json))
        return self._events.take()

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes]:
        """Translate the ``data`` of one upstream event; ``MalformedUpstreamAnswer`` if it cannot be read."""

    @abstractmethod
    def finish(self) -> list[bytes]:
        """Return the events that close what is open, once the upstream said all it had to say."""

    @abstractmethod
    def output_items(self) -> tuple[Item, ...]:
        """Return the items so far; one that is still open is incomplete."""

    @abstractmethod
    def answer(self) -> Answer:
        """Return how the answer came out; without a ``finish_reason`` that is not for it to say."""

    def terminal(
        self,
        usage: TokenCounts | None,
        *,
        completed_at: int,
        stored: bool,
        error: ResponseError | None = None,
    ) -> Terminal:
        """Return the last event; see ``end_response`` for the arguments."""
        response = end_response(
            self._draft, self.answer(), usage, completed_at=completed_at, stored=stored, error=error
        )
        response_json = ENCODER.encode(response)
        event = TERMINAL_EVENTS[response.status](self._events.next_number(), msgspec.Raw(response_json))
        return Terminal(frame(event), response, response_json)
