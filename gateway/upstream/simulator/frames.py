"""Server-sent events as the simulator writes them, with whatever line ends the script asks for."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from gateway.upstream.simulator.script import Newline

COMMENT = b": the model is thinking"


class Frame(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One event, and how many tokens of output it carries."""

    data: bytes
    event: str | None = None
    tokens: int = 0


class Stream(Protocol):
    """An answer as events: what comes before its tokens, the tokens, and what comes after, or a failure."""

    def opening(self) -> list[Frame]:
        """Return the events before any token."""
        ...

    def pieces(self) -> Iterator[Frame]:
        """Yield the events that carry tokens."""
        ...

    def closing(self) -> list[Frame]:
        """Return the events after the last token."""
        ...

    def failure(self) -> list[Frame]:
        """Return the events that end the stream with an error instead."""
        ...


def encode_frames(frames: Iterable[Frame], newline: Newline, *, comments: bool) -> bytes:
    """Write events; with ``comments``, each after a line that clients have to skip."""
    end = newline.text
    parts: list[bytes] = []
    for frame in frames:
        if comments:
            parts += [COMMENT, end]
        if frame.event is not None:
            parts += [b"event: ", frame.event.encode(), end]
        parts += [b"data: ", frame.data, end, end]
    return b"".join(parts)
