"""A small TCP proxy that behaves badly on request: it stands between a process under test and what it needs.

Its misbehaviour is drawn from a seed, so that a failure can be repeated. It runs in a thread of its own, because
the processes on both of its sides are real ones and the test in the middle must be free to wait.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

CHUNK_BYTES = 64 * 1024
LATENCY_MAX_S = 0.05
SLICE_MAX_BYTES = 7
RESET_AFTER_MAX_BYTES = 512
SLOW_CLOSE_MAX_S = 1
LIMIT_BYTES_PER_S = 16 * 1024
READY_FOR_QUERY = b"Z\x00\x00\x00\x05"
"""How the answer to a statement ends in Postgres' protocol, but for one byte: by then it is committed."""

Target = Path | tuple[str, int]
"""Where the proxy leads: a Unix socket, or a host and a port."""


class Mode(StrEnum):
    """What becomes of connections; it changes at once, for those that are open too."""

    PASS = "pass"
    DOWN = "down"
    """Connections are refused, and open ones are cut."""
    HANG = "hang"
    """Connections are accepted and no byte moves."""
    LOSE = "lose"
    """Every connection that is open moves no byte ever again, and neither end is told; those made now hang until the mode changes."""
    LATENCY = "latency"
    """Every chunk is up to 50 ms late."""
    RESET = "reset"
    """Every connection is cut after a few hundred bytes."""
    SLICE = "slice"
    """Bytes arrive a few at a time."""
    LIMIT = "limit"
    """No more than 16 KiB a second pass in either direction."""
    SLOW_CLOSE = "slow_close"
    """The end of a connection is passed on up to a second late."""
    CUT_AFTER_BYTES = "cut_after_bytes"
    """Every connection is cut when ``cut_after_bytes`` have come back."""
    CUT_BEFORE_ANSWER = "cut_before_answer"
    """A statement with ``marker`` in it reaches Postgres and is committed; its answer does not come back."""


class ToxicProxy:
    """The proxy; everything but ``set`` belongs to its own loop."""

    def __init__(self, target: Target, *, seed: int) -> None:
        self.port = 0
        self.cut_after_bytes = 0
        self.marker = b""
        self.chance = 1.0
        self.cuts = 0
        self._losses = 0
        self._target = target
        self._random = random.Random(seed)
        self._mode = Mode.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def set(self, mode: Mode) -> None:
        """Change the behaviour, from any thread but the proxy's; it is in force when this returns."""
        asyncio.run_coroutine_threadsafe(self.change(mode), self._loop).result(10)

    async def change(self, mode: Mode) -> None:
        self._mode = mode
        self._losses += mode is Mode.LOSE
        if mode in {Mode.HANG, Mode.LOSE}:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is Mode.DOWN:
            await self.close()
        elif self._server is None:
            await self.open()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            # Python 3.11 loses a connection that is accepted and not yet made when its server closes.
            for listening in server.sockets:
                self._loop.remove_reader(listening)
            await asyncio.sleep(0)
            server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        """Close every connection and wait for it, also for those that were being accepted."""
        await self.close()
        for link in self._links:
            link.cancel()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: one that is cancelled before its first step would leave the connection open.
        if self._server is None:
            writer.transport.abort()
            return
        self._writers.add(writer)
        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        link.add_done_callback(lambda _: self._abandon(writer))

    def _abandon(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer = None
        try:
            far_reader, far_writer = await self._connect()
            self._writers.add(far_writer)
            link = _Link(self._losses)
            await asyncio.gather(
                self._pump(reader, far_writer, link, is_answer=False),
                self._pump(far_reader, writer, link, is_answer=True),
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if far_writer is not None:
                self._abandon(far_writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(str(self._target), limit=CHUNK_BYTES)
        return await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: "_Link", *, is_answer: bool
    ) -> None:
        left_bytes = self._random.randint(0, RESET_AFTER_MAX_BYTES)
        while chunk := await reader.read(CHUNK_BYTES):
            await self._hold_up(link, len(chunk))
            if self._mode is Mode.RESET:
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise ConnectionResetError
            if is_answer:
                self._cut(link, chunk)
            else:
                self._arm(link, chunk)
            if is_answer and link.armed:
                continue
            for piece in self._pieces(chunk):
                writer.write(piece)
                await writer.drain()
        if link.losses < self._losses:
            return
        if self._mode is Mode.SLOW_CLOSE:
            await asyncio.sleep(self._random.uniform(0, SLOW_CLOSE_MAX_S))
        writer.write_eof()

    async def _hold_up(self, link: "_Link", size: int) -> None:
        """Return when so many bytes may pass; on a connection that is lost, never."""
        await self._flowing.wait()
        if link.losses < self._losses:
            await asyncio.Event().wait()
        if self._mode is Mode.LATENCY:
            await asyncio.sleep(self._random.uniform(0, LATENCY_MAX_S))
        if self._mode is Mode.LIMIT:
            await asyncio.sleep(size / LIMIT_BYTES_PER_S)

    def _arm(self, link: "_Link", chunk: bytes) -> None:
        """Look for the marker in what goes to the server, also where it is cut in two."""
        if self._mode is not Mode.CUT_BEFORE_ANSWER:
            return
        window = link.tail + chunk
        link.tail = window[-len(self.marker) :]
        if self.marker in window and self._random.random() < self.chance:
            link.armed = True
            link.tail = b""

    def _cut(self, link: "_Link", chunk: bytes) -> None:
        """Cut the connection where the mode says so; ``ConnectionResetError`` does it."""
        link.answered_bytes += len(chunk)
        over = self._mode is Mode.CUT_AFTER_BYTES and link.answered_bytes > self.cut_after_bytes
        # The statement's own answer may come in pieces; only its end proves that it was committed.
        committed = link.armed and chunk[-6:-1] == READY_FOR_QUERY
        if over or committed:
            self.cuts += 1
            raise ConnectionResetError

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        if self._mode is not Mode.SLICE:
            yield chunk
            return
        start = 0
        while start < len(chunk):
            size = self._random.randint(1, SLICE_MAX_BYTES)
            yield chunk[start : start + size]
            start += size


class _Link:
    """What is known of one connection through the proxy."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        """How often connections had been lost when this one was made."""
        self.armed = False
        self.tail = b""
        self.answered_bytes = 0


@contextlib.contextmanager
def running_proxy(target: Target, *, seed: int = 0) -> Iterator[ToxicProxy]:
    """Run a proxy on a free port until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="toxic proxy")
    thread.start()

    async def start() -> ToxicProxy:
        proxy = ToxicProxy(target, seed=seed)
        await proxy.open()
        return proxy

    proxy = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
