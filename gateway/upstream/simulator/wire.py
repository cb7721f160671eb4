"""The simulator's side of one HTTP exchange: it notices a client that leaves, and can end an answer badly."""

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_MAX_BYTES = 64 * 1024 * 1024
OPEN_FILES = Path("/dev/fd")
CLOSE_WITH_RESET = struct.pack("ii", 1, 0)


class ClientGone(Exception):
    """The client closed its connection."""


class Exchange:
    """One request and its answer; ``split_bytes`` cuts the answer's body into pieces of that size."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.split_bytes: int | None = None
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held = b""
        self._gone = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header of the request."""
        return next((value.decode("latin-1") for key, value in self._scope["headers"] if key == name), None)

    async def read_body(self) -> bytes:
        """Return the request's body; ``RequestError`` above 64 MiB, ``ClientGone`` if it breaks off."""
        chunks: list[bytes] = []
        size = 0
        is_complete = False
        while not is_complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > BODY_MAX_BYTES:
                raise RequestError("The body is too large.")
            is_complete = not message.get("more_body", False)
        self._watcher = asyncio.create_task(self._watch())
        return b"".join(chunks)

    async def start(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers, which leave with the first bytes of the body."""
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send a part of the body; ``ClientGone`` if nobody is there to read it."""
        for piece in self._pieces(data):
            # Sending does not wait for the network, so without this the loop never hears that the client left.
            await asyncio.sleep(0)
            if self._gone.is_set():
                raise ClientGone
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def flush(self) -> None:
        """Send what is held back because it is shorter than a piece."""
        held, self._held = self._held, b""
        if held:
            await self._send({"type": "http.response.body", "body": held, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """Send the last part of the body and end it."""
        if self.split_bytes is not None:
            await self.write(data)
            data, self._held = self._held, b""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def send_json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        body = msgspec.json.encode(value)
        length = {"content-type": "application/json", "content-length": str(len(body))}
        await self.start(status, {**length, **(headers or {})})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def pause(self, seconds: float) -> None:
        """Wait; ``ClientGone`` as soon as the client leaves."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), seconds)
        if self._gone.is_set():
            raise ClientGone

    def reset(self) -> None:
        """Break the connection without an answer, which no ASGI server offers, by finding its socket."""
        host, port = self._scope["client"]
        for connection in _own_connections():
            with connection, contextlib.suppress(OSError):
                if connection.getpeername()[:2] == (host, int(port)):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_WITH_RESET)
                    connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Stop listening for the client's departure."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut data into pieces of the size that was asked for, holding back what is left over."""
        size = self.split_bytes
        if size is None:
            yield data
            return
        data = self._held + data
        whole = len(data) - len(data) % size
        self._held = data[whole:]
        for start in range(0, whole, size):
            yield data[start : start + size]


def _own_connections() -> Iterator[socket.socket]:
    """Yield a duplicate of every socket of this process."""
    for entry in list(OPEN_FILES.iterdir()):
        with contextlib.suppress(OSError):
            number = int(entry.name)
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                yield socket.socket(fileno=os.dup(number))
