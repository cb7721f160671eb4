"""The client's side of a request: bytes go out while it listens, and nothing happens when it has left."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Downstream:
    """One answer on its way to one client; a write to a client that has left is a no-op.

    The server's ``send`` waits while the client's buffers are full, so the relay stops reading from the model
    and memory stays bounded. A client that takes nothing for ``slow_timeout_s`` is treated as gone.
    """

    __slots__ = (
        "_loop",
        "_on_slow",
        "_send",
        "_slow_timeout_s",
        "_timer",
        "_waiting_since",
        "gone",
        "started",
    )

    def __init__(self, send: Send, *, slow_timeout_s: float, on_slow: Callable[[], None]) -> None:
        self.gone = False
        self.started = False
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._slow_timeout_s = slow_timeout_s
        self._on_slow: Callable[[], None] | None = on_slow
        self._waiting_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status line and the headers."""
        self.started = True
        if self.gone:
            return
        self._timer = self._loop.call_later(self._slow_timeout_s, self._look)
        await self._deliver({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, body: bytes) -> None:
        """Send a part of the body."""
        if body and not self.gone:
            self._waiting_since = self._loop.time()
            try:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                self._waiting_since = None

    async def finish(self, body: bytes) -> None:
        """Send the last part of the body and end the answer."""
        if not self.gone:
            await self._deliver({"type": "http.response.body", "body": body, "more_body": False})
        self.close()

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer at once; the server takes it as one, so there is nothing to wait for."""
        self.started = True
        if not self.gone:
            await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        if not self.gone:
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def close(self) -> None:
        """Stop watching the client, and let go of whoever wanted to know: in a cycle both would wait for the collector."""
        self._on_slow = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _deliver(self, message: dict[str, Any]) -> None:
        self._waiting_since = self._loop.time()
        try:
            await self._send(message)
        finally:
            self._waiting_since = None

    def _look(self) -> None:
        """Notice a client that takes nothing; one timer a stream is cheaper than one a write."""
        since = self._waiting_since
        waited_s = 0.0 if since is None else self._loop.time() - since
        if self._on_slow is not None and waited_s >= self._slow_timeout_s:
            self._on_slow()
            return
        self._timer = self._loop.call_later(self._slow_timeout_s - waited_s, self._look)
