"""All exchanges of a process: how many there are, what happens when their clients leave, and how they end.

When a client leaves, its upstream is either read to the end, so that the exact usage is charged, or cancelled.
Which of the two is the plan's policy; reading on is bounded in time and in number, and always done where the
rest is small.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from gateway.errors import NusagateError
from gateway.ledger.model import EndReason, Heartbeat
from gateway.plans.model import OnDisconnect
from gateway.proxy.exchange import Exchange
from gateway.runtime import metrics
from gateway.runtime.settings import Limits

SMALL_REST_TOKENS = 256
WATCH_AFTER_S = 0.1
"""How long an exchange runs at least, and twice as long at most, before somebody listens for its client's leaving:
to listen costs a third of what it costs to relay, and most short answers are over by then."""


class Overloaded(NusagateError):
    """The gateway serves as many requests as it can; try again in a moment."""

    code = "overloaded"


class Exchanges:
    """Runs exchanges, each in a task of its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running: dict[asyncio.Task[None], Exchange] = {}
        self._drains: Counter[UUID] = Counter()
        self._unwatched: tuple[list[asyncio.Future[None]], list[asyncio.Future[None]]] = ([], [])
        self._watch_timer: asyncio.TimerHandle | None = None
        self.draining = False

    def check_room(self) -> None:
        """Refuse when too many requests are being served; asked before anything is reserved."""
        if len(self._running) >= self._limits.max_requests_in_flight:
            raise Overloaded

    async def serve(
        self,
        exchange: Exchange,
        receive: Callable[[], Awaitable[dict[str, Any]]],
        on_disconnect: OnDisconnect,
    ) -> None:
        """Run an exchange to its end while watching its client."""
        task = asyncio.get_running_loop().create_task(exchange.run())
        self._running[task] = exchange
        metrics.count(metrics.requests_in_flight)
        task.add_done_callback(self._finished)
        await self._time_to_watch(task)
        if task.done() or self.draining:
            # A server that stops calls everybody gone who begins to listen now.
            await task
            return
        # The server reports a disconnect when the client leaves, and also when the answer is complete.
        while (await receive())["type"] != "http.disconnect":
            pass
        if not exchange.answered:
            self._client_left(exchange, task, on_disconnect)
        await task

    def heartbeats(self) -> list[Heartbeat]:
        """Say of every request how far it is, for the sweep that looks for those of a dead gateway."""
        return [exchange.heartbeat() for exchange in self._running.values()]

    async def shut_down(self) -> None:
        """Let exchanges finish for a while, then end the rest; every one is settled when this returns."""
        self.draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=self._limits.shutdown_timeout_s)
        for exchange in self._running.values():
            exchange.interrupt.trigger(EndReason.DRAINED_AT_SHUTDOWN)
        if self._running:
            await asyncio.wait(self._running)

    def _time_to_watch(self, task: asyncio.Task[None]) -> asyncio.Future[None]:
        """Return what is done when the exchange is over, or has run for a while."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        task.add_done_callback(lambda _task: _finish(over))
        self._unwatched[1].append(over)
        if self._watch_timer is None:
            self._watch_timer = loop.call_later(WATCH_AFTER_S, self._watch)
        return over

    def _watch(self) -> None:
        """Let those who have run for a while watch their clients; one timer for all of them."""
        older, younger = self._unwatched
        for over in older:
            _finish(over)
        self._unwatched = (younger, [])
        again = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._watch) if younger else None
        self._watch_timer = again

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).downstream.close()
        metrics.count(metrics.requests_in_flight, by=-1)

    def _client_left(self, exchange: Exchange, task: asyncio.Task[None], on_disconnect: OnDisconnect) -> None:
        exchange.client_left = True
        exchange.downstream.gone = True
        key_id = exchange.hold.request.key_id
        wanted = on_disconnect is OnDisconnect.DRAIN or exchange.remaining_output_tokens <= SMALL_REST_TOKENS
        if not wanted or not self._may_drain(key_id):
            exchange.cancel_for_client()
            return
        self._drains[key_id] += 1
        timer = asyncio.get_running_loop().call_later(
            self._limits.drain_timeout_s, exchange.cancel_for_client
        )

        def drained(_task: asyncio.Task[None]) -> None:
            timer.cancel()
            self._drains[key_id] -= 1
            if self._drains[key_id] == 0:
                del self._drains[key_id]

        task.add_done_callback(drained)

    def _may_drain(self, key_id: UUID) -> bool:
        in_number = self._drains.total() < self._limits.max_drains
        return in_number and self._drains[key_id] < self._limits.max_drains_per_key


def _finish(waited_for: asyncio.Future[None]) -> None:
    if not waited_for.done():
        waited_for.set_result(None)
