"""Cuts a server-sent event stream into events without changing a byte of it.

The relay forwards ``raw`` and the meter reads ``data``, so both see the same stream: the raw bytes of all
events, and then ``finish()``, are the input exactly. The rules are those of the WHATWG HTML standard,
section "Server-sent events": a line ends with LF, CR or CRLF, a blank line ends an event, one byte order mark
may open the stream.

An event is handed out the moment its blank line is there. When that line's CR ends one chunk and its LF opens
the next, the LF becomes the first byte of the following event; a blank line before an event means nothing, so
every split of a stream gives the same names and data.
"""

import re

import msgspec

from gateway.errors import NusagateError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DATA_PREFIX = b"data: "
FRAME_END = b"\n\n"

BLANK_LINE = re.compile(rb"\n(?:\n|\r\n?)|\r\r\n?")
"""Two line ends in a row. A CRLF is one line end: its LF may open a match, but CR and LF alone never make one."""


class SseEventTooLarge(NusagateError):
    """The upstream sent an event that is larger than the gateway accepts."""

    code = "upstream_error"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream.

    ``raw`` is what was received, blank line included. ``name`` is the value of its ``event`` field, None when
    absent or empty. ``data`` is the value of its ``data`` lines joined by LF, None when it has no such line:
    a comment, a keep-alive.
    """

    raw: bytes
    name: bytes | None
    data: bytes | None


class SseSplitter:
    """Splits one stream, fed in whatever chunks the network made of it.

    ``max_event_bytes`` bounds the raw bytes of one event, and so the memory of one splitter.
    """

    __slots__ = ("_at_start", "_max_event_bytes", "_pending", "_searched_bytes")

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._at_start = True
        self._pending = bytearray()
        self._searched_bytes = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events they complete.

        Raises ``SseEventTooLarge``; after that the stream cannot be read any further.
        """
        if not self._pending:
            if _is_plain(chunk) and len(chunk) <= self._max_event_bytes:
                self._at_start = False
                return [SseEvent(chunk, None, _plain_data(chunk))]
            return self._split(chunk)
        self._pending += chunk
        if BLANK_LINE.search(self._pending, self._searched_bytes) is None:
            self._keep(self._pending)
            return []
        return self._split(bytes(self._pending))

    def finish(self) -> bytes:
        """Return the bytes of an event that the end of the stream cut off; the standard says to drop them."""
        left_over = bytes(self._pending)
        self._keep(bytearray())
        return left_over

    def _split(self, stream: bytes) -> list[SseEvent]:
        frames, rest = _split_at_any_end(stream) if b"\r" in stream else _split_at_line_feeds(stream)
        events = []
        for raw in frames:
            if len(raw) > self._max_event_bytes:
                raise SseEventTooLarge
            content = raw
            if self._at_start:
                self._at_start = False
                content = raw.removeprefix(BYTE_ORDER_MARK)
            name, data = _read_fields(content)
            events.append(SseEvent(raw, name, data))
        if rest or self._pending:
            self._keep(bytearray(rest))
        return events

    def _keep(self, pending: bytearray) -> None:
        if len(pending) > self._max_event_bytes:
            raise SseEventTooLarge
        self._pending = pending
        # The last byte may be the first half of a blank line; all bytes before it have been looked at for good.
        self._searched_bytes = max(0, len(pending) - 1)


def _split_at_line_feeds(stream: bytes) -> tuple[list[bytes], bytes]:
    """Cut a stream that has no CR, which nearly all have not, into whole frames and the rest."""
    frames = stream.split(FRAME_END)
    rest = frames.pop()
    return [frame + FRAME_END for frame in frames], rest


def _split_at_any_end(stream: bytes) -> tuple[list[bytes], bytes]:
    """Cut a stream with any mix of line ends into whole frames and the rest."""
    frames = []
    start = 0
    for blank_line in BLANK_LINE.finditer(stream):
        frames.append(stream[start : blank_line.end()])
        start = blank_line.end()
    return frames, stream[start:]


def _is_plain(content: bytes) -> bool:
    """Tell whether bytes are one data line and LF LF: model upstreams send little else, and mostly in one piece."""
    return (
        content.startswith(DATA_PREFIX)
        and content.endswith(FRAME_END)
        and content.find(b"\n") == len(content) - len(FRAME_END)
        and b"\r" not in content
    )


def _plain_data(content: bytes) -> bytes:
    return content[len(DATA_PREFIX) : -len(FRAME_END)]


def _read_fields(content: bytes) -> tuple[bytes | None, bytes | None]:
    """Return the name and the data of one whole event."""
    if _is_plain(content):
        return None, _plain_data(content)
    name = None
    data = []
    for line in content.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ") or None
    return name, b"\n".join(data) if data else None
