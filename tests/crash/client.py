"""A small HTTP client that writes down what a client sees: how far an answer came, and what was in it.

It exists because a real client library hides exactly what matters here: where an answer was cut, and whether what was
there was whole.
"""

import asyncio
import contextlib
import json
import time
from typing import Any

from tests.fakes.checker import Seen

READ_BYTES = 65_536
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
TERMINAL = frozenset({"response.completed", "response.incomplete"})
WORD_EVENTS = frozenset({"response.output_text.delta"})


class Left(Exception):
    """This client has seen enough."""


class Connection:
    """One connection to the gateway, kept for as long as both sides agree."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(
        self,
        path: str,
        key: str,
        body: bytes,
        answer: "Answer",
        *,
        leave_after_bytes: int | None = None,
        leave_after_s: float | None = None,
        bytes_per_s: int | None = None,
    ) -> None:
        """Send one request and feed what comes back to ``answer``; ``OSError`` or an early end leaves it partial."""
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._reader is not None
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        whole = False
        try:
            self._writer.write(head.encode() + body)
            await self._writer.drain()
            if leave_after_bytes == 0:
                raise Left
            leaves_at = None if leave_after_s is None else loop.time() + leave_after_s
            while not answer.ended:
                size = READ_BYTES if bytes_per_s is None else 1
                chunk = await _read_until(self._reader, size, leaves_at)
                if not chunk:
                    break
                answer.feed(chunk)
                if leave_after_bytes is not None and answer.bytes_read >= leave_after_bytes:
                    raise Left
                if bytes_per_s is not None:
                    await asyncio.sleep(1 / bytes_per_s)
            whole = answer.ended and answer.keeps_alive
        finally:
            if not whole:
                await self.close()

    async def close(self) -> None:
        """Cut the connection."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_until(reader: asyncio.StreamReader, size: int, leaves_at: float | None) -> bytes:
    """Read some bytes; ``Left`` when the moment has come to leave."""
    if leaves_at is None:
        return await reader.read(size)
    try:
        async with asyncio.timeout_at(leaves_at):
            return await reader.read(size)
    except TimeoutError as error:
        raise Left from error


class Answer:
    """The bytes of one answer, taken apart as they come."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.bytes_read = 0
        self.ended = False
        self._raw = bytearray()
        self._left: int | None = None

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection can carry another request."""
        return self.headers.get("connection", "").lower() != "close"

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they came from the network."""
        self.bytes_read += len(chunk)
        self._raw += chunk
        if not self.headers and not self._take_head():
            return
        if "content-length" in self.headers:
            self.body += self._raw
            self._raw.clear()
            self.ended = len(self.body) >= int(self.headers["content-length"])
        else:
            while self._take_chunk():
                pass

    def _take_head(self) -> bool:
        head, end, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if not end:
            return False
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        pairs = (line.partition(":") for line in lines[1:])
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._raw = bytearray(rest)
        return True

    def _take_chunk(self) -> bool:
        """Take one piece of a chunked body; false when there is none yet."""
        if self._left is None:
            line, end, rest = bytes(self._raw).partition(b"\r\n")
            if not end:
                return False
            self._left = int(line.split(b";")[0], 16)
            self._raw = bytearray(rest)
        if len(self._raw) < self._left + 2:
            self._take_partial()
            return False
        self.body += self._raw[: self._left]
        del self._raw[: self._left + 2]
        self.ended = self._left == 0
        self._left = None
        return not self.ended

    def _take_partial(self) -> None:
        """Count bytes of a chunk that is not whole yet as seen: a client that streams sees them."""
        assert self._left is not None
        taken = min(len(self._raw), self._left)
        self.body += self._raw[:taken]
        del self._raw[:taken]
        self._left -= taken


def note(record: Seen, answer: Answer, began_s: float) -> None:
    """Write down what a client can say about an answer."""
    record.status = answer.status
    record.request_id = answer.headers.get("x-request-id")
    record.bytes_read = answer.bytes_read
    record.after_s = time.monotonic() - began_s
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        _note_stream(record, bytes(answer.body))
    elif answer.ended:
        _note_json(record, answer)


def _note_json(record: Seen, answer: Answer) -> None:
    try:
        value = json.loads(answer.body)
    except ValueError:
        return
    if answer.status != 200:
        record.error_code = (value.get("error") or {}).get("code", "unknown")
        return
    record.complete = record.endpoint != "responses" or value.get("status") in ("completed", "incomplete")
    _note_object(record, value)
    if record.endpoint == "chat":
        record.words = len(value["choices"][0]["message"]["content"].split())


def _note_stream(record: Seen, body: bytes) -> None:
    text: list[str] = []
    # A line may end with any of three; a cut in the middle of one makes an empty event at most.
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for event in lines.split(b"\n\n")[:-1]:
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data or data == b"[DONE]":
            continue
        value = json.loads(data)
        if record.endpoint == "chat":
            _note_chunk(record, value, text)
        else:
            _note_event(record, value, text)
    record.words = len("".join(text).split()) or record.words
    if record.error_code is not None:
        record.complete = False


def _note_chunk(record: Seen, value: dict[str, Any], text: list[str]) -> None:
    if value.get("error"):
        record.error_code = value["error"]["code"]
        return
    _note_object(record, value)
    for choice in value["choices"]:
        text.append(choice["delta"].get("content") or "")
        record.complete = record.complete or choice.get("finish_reason") is not None


def _note_event(record: Seen, value: dict[str, Any], text: list[str]) -> None:
    kind = value["type"]
    if kind in WORD_EVENTS:
        text.append(value["delta"])
    elif kind == "error":
        record.error_code = value.get("code") or (value.get("error") or {}).get("code", "error")
    elif "response" in value:
        _note_object(record, value["response"])
        record.complete = kind in TERMINAL
        if kind == "response.failed":
            record.error_code = (value["response"].get("error") or {}).get("code", "failed")


def _note_object(record: Seen, value: dict[str, Any]) -> None:
    record.answer_id = value.get("id", record.answer_id)
    record.echoed_user = value.get("user") or record.echoed_user
    usage = value.get("usage") or {}
    record.input_tokens = usage.get("prompt_tokens", usage.get("input_tokens", record.input_tokens))
    record.output_tokens = usage.get("completion_tokens", usage.get("output_tokens", record.output_tokens))
    if record.endpoint == "responses":
        parts = [part for item in value.get("output", ()) for part in item.get("content", ())]
        record.words = len("".join(part.get("text", "") for part in parts).split()) or record.words
