"""Stopping a task's work from outside without losing what must come after it.

``asyncio.timeout`` cancels the current task and turns that cancellation into an error at the edge of its block.
This does the same for any reason: a client that left, a shutdown, a slow reader. What follows the block, which
is where requests are settled, is not cancelled.
"""

import asyncio
from types import TracebackType
from typing import Generic, Self, TypeVar

Reason = TypeVar("Reason")


class Interrupted(Exception):
    """The block was stopped from outside; ``Interrupt.reason`` says why."""


class Interrupt(Generic[Reason]):
    """A block of awaits that ``trigger`` can stop once, written ``with``; the first reason stays."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancellations = 0

    def trigger(self, reason: Reason) -> None:
        """Stop the block, or keep it from being entered; after the first reason this does nothing."""
        if self.reason is not None:
            return
        self.reason = reason
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> Self:
        """Enter the block; ``Interrupted`` if it was stopped before it began."""
        if self.reason is not None:
            raise Interrupted
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancellations = self._task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Leave the block; ``Interrupted`` in place of the cancellation that was ours."""
        task, self._task = self._task, None
        assert task is not None
        if self.reason is None or task.cancelling() <= self._cancellations:
            return
        only_ours = task.uncancel() <= self._cancellations
        if only_ours and (kind is None or kind is asyncio.CancelledError):
            raise Interrupted from error
