"""Clients for what wrk cannot do: requests at a fixed pace whatever the answers do, and many streams at once."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec

ANSWER_TIMEOUT_S = 30
LAST_CHUNK = b"0\r\n\r\n"
HEAD_END = b"\r\n\r\n"
SUCCESS = b"HTTP/1.1 200"


class Target(msgspec.Struct, frozen=True):
    """Where requests go and what they say."""

    port: int
    path: str
    key: str
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, body: bytes) -> bytes:
        """Write one whole request."""
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.key}\r\n{more}content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._received = b""
        self._whole: asyncio.Future[None] | None = None
        self.first_event: asyncio.Future[float] | None = None

    @classmethod
    async def open(cls, target: Target) -> "Connection":
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", target.port)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self._whole, self.first_event):
            if future is not None and not future.done():
                future.set_exception(error or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(HEAD_END)
        if not separator:
            return
        if self.first_event is not None and not self.first_event.done() and b"data:" in body:
            self.first_event.set_result(perf_counter())
        if is_whole(head, body):
            assert self._whole is not None
            self._whole.set_result(None)
        elif len(self._received) > 2 * len(LAST_CHUNK) + len(head):
            # The head says how the body ends; of the body only its end matters.
            self._received = (
                head + HEAD_END + body[-len(LAST_CHUNK) :] if b"chunked" in head else self._received
            )

    def begin(self, request: bytes) -> "asyncio.Future[None]":
        """Send a request; the future is done when its answer is whole, and fails unless that is a success."""
        self._received = b""
        self._whole = self._loop.create_future()
        self.first_event = self._loop.create_future()
        self._transport.write(request)
        return self._whole

    async def finish(self) -> None:
        """Wait for the answer; ``RuntimeError`` if it is none of success."""
        assert self._whole is not None
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._whole
        if not self._received.startswith(SUCCESS):
            raise RuntimeError(f"the answer was {self._received[:600]!r}")

    def close(self) -> None:
        """Hang up."""
        for future in (self._whole, self.first_event):
            if future is not None and not future.done():
                future.cancel()
        self._transport.abort()


def is_whole(head: bytes, body: bytes) -> bool:
    """Tell whether an answer has arrived to its end."""
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        return body.endswith(LAST_CHUNK)
    _, _, rest = lowered.partition(b"content-length:")
    return len(body) >= int(rest.split(b"\r\n", 1)[0])


async def open_loop(
    target: Target, body: bytes, *, per_second: int, seconds: float, connections: int
) -> list[float]:
    """Send at a fixed pace; return each answer's seconds, counted from when it was due to be sent.

    Counting from the due time keeps a slow server from hiding its delays by slowing the client down.
    """
    loop = asyncio.get_running_loop()
    idle = [await Connection.open(target) for _ in range(connections)]
    everyone = list(idle)
    request = target.request(body)
    latencies: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def send(due: float) -> None:
        connection = idle.pop() if idle else await Connection.open(target)
        connection.begin(request)
        await connection.finish()
        latencies.append(perf_counter() - due)
        idle.append(connection)

    start = perf_counter() + 0.01
    for number in range(int(per_second * seconds)):
        due = start + number / per_second
        await asyncio.sleep(due - perf_counter())
        task = loop.create_task(send(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in {*everyone, *idle}:
        connection.close()
    return latencies


async def first_events(target: Target, body: bytes, *, per_second: int, count: int) -> list[float]:
    """Open streams at a fixed pace, and return how many seconds each took to its first event."""
    request = target.request(body)
    start = perf_counter()
    connections = [await Connection.open(target) for _ in range(8)]
    waits = []
    for number in range(count):
        await asyncio.sleep(start + number / per_second - perf_counter())
        connection = connections[number % len(connections)]
        sent = perf_counter()
        connection.begin(request)
        assert connection.first_event is not None
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            waits.append(await connection.first_event - sent)
        await connection.finish()
    for connection in connections:
        connection.close()
    return waits


async def open_streams(target: Target, body: bytes, *, count: int, spread_s: float) -> list[Connection]:
    """Open streams one after the other over ``spread_s`` seconds, so that they do not beat in step."""
    connections = []
    request = target.request(body)
    start = perf_counter()
    for number in range(count):
        await asyncio.sleep(start + spread_s * number / count - perf_counter())
        connection = await Connection.open(target)
        connection.begin(request)
        connections.append(connection)
    return connections


async def finish_streams(connections: Sequence[Connection]) -> None:
    """Wait for all streams to end, and hang up."""
    for connection in connections:
        await connection.finish()
    for connection in connections:
        connection.close()


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that ``percent`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
