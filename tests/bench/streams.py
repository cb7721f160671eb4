"""An upstream that streams: every event is encoded once, so that the server costs as little as Python can.

Run as ``python -m tests.bench.streams PORT``. What to stream is written in the prompt, ``events=100 interval_ms=20``,
because a gateway passes on nothing else that it does not know.
"""

import asyncio
import re
import sys
from typing import Any

import msgspec
import uvloop

WANTED = re.compile(rb"events=(\d+) interval_ms=(\d+)")
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST_CHUNK = b"0\r\n\r\n"
TEXT = " kata"


def http_chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk of a body of unknown length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chat_chunk(delta: dict[str, str], finish_reason: str | None = None, **more: object) -> bytes:
    """Write one event of a chat stream, with the fields that real servers send."""
    event = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1795000000,
        "model": "smollm2-135m",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        **more,
    }
    return http_chunk(b"data: " + msgspec.json.encode(event) + b"\n\n")


USAGE = {"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112}
FIRST = chat_chunk({"role": "assistant", "content": ""})
NEXT = chat_chunk({"content": TEXT})
END = chat_chunk({}, "stop", usage=USAGE) + http_chunk(b"data: [DONE]\n\n") + LAST_CHUNK


class StreamServer(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._due = 0.0
        self._interval_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        wanted = WANTED.search(body)
        if wanted is None:
            self._transport.write(OK)
            return
        self._left, self._interval_s = int(wanted[1]), int(wanted[2]) / 1000
        self._transport.write(HEAD + FIRST)
        self._due = self._loop.time()
        self._wait()

    def _wait(self) -> None:
        self._due += self._interval_s
        self._timer = self._loop.call_at(self._due, self._write)

    def _write(self) -> None:
        if self._left == 0:
            self._transport.write(END)
            return
        self._left -= 1
        self._transport.write(NEXT)
        self._wait()


async def serve(port: int) -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(StreamServer, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
