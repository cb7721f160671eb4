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


class Overloaded(NusagateError):
    """The gateway serves as many requests as it can; try again in a moment."""

    code = "overloaded"


class Exchanges:
    """Runs exchanges, each in a task of its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running: dict[asyncio.Task[None], Exchange] = {}
        self._drains: Counter[UUID] = Counter()
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
        metrics.requests_in_flight.inc()
        task.add_done_callback(self._finished)
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

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).downstream.close()
        metrics.requests_in_flight.dec()

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
