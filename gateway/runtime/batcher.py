"""Natural batching: while one flush is on the wire, the next one gathers.

Idle, an item waits for nobody; busy, a hundred items share one round trip and one commit. There is no timer
and nothing to tune.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gateway.errors import NusagateError

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(NusagateError):
    """The gateway is overloaded; try again in a moment."""

    code = "overloaded"


class Batcher(Generic[Item, Result]):
    """Collects items and hands them to ``flush`` in batches, one batch at a time.

    ``flush`` takes a list and returns as many results, in order. When a batch fails, ``is_poison`` tells
    whether one bad item may be the reason: then every item is tried alone, so that it fails nobody else.
    """

    def __init__(
        self,
        flush: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        max_queue: int,
        is_poison: Callable[[Exception], bool],
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._is_poison = is_poison
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._flight: asyncio.Task[None] | None = None
        self._flying: list[asyncio.Future[Result]] = []

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item and return the future of its result; ``QueueFull`` when too many wait."""
        if len(self._waiting) >= self._max_queue:
            raise QueueFull
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._fly())
        return future

    def fail_waiting(self, error: Exception) -> None:
        """Tell everybody who waits that it will take too long; what is on the wire goes on without them."""
        abandoned = [*self._flying, *(future for _, future in self._waiting)]
        self._waiting.clear()
        for future in abandoned:
            if not future.done():
                future.set_exception(error)

    async def close(self) -> None:
        """Wait until everything that was submitted is flushed."""
        while self._flight is not None:
            await asyncio.wait([self._flight])

    async def _fly(self) -> None:
        while self._waiting:
            batch = self._waiting[: self._max_batch]
            del self._waiting[: self._max_batch]
            await self._send(batch)
        self._flight = None

    async def _send(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        self._flying = [future for _, future in batch]
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # whatever it is, the waiting requests must hear of it
            if len(batch) > 1 and self._is_poison(error):
                for entry in batch:
                    await self._send([entry])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
