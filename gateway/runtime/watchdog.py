"""A deadline for every wait on something outside, at the price of one timer for all of them.

``asyncio.timeout`` sets and clears a timer around each wait. A stream waits thousands of times and almost
never too long, so here a wait only notes when it must be over; the one timer looks at that note when it
goes off, and sets itself again if the wait it was set for has long ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Watchdog:
    """Bounds each wait, and all of them together by ``total_timeout_s`` from now on; raises what ``late`` makes.

    All waits are those of one task, whichever waits first: asking each time would cost more than the rest of a wait.
    """

    __slots__ = (
        "_deadline",
        "_fired",
        "_late",
        "_loop",
        "_task",
        "_timer",
        "_timer_at",
        "_total_deadline",
        "_waiting",
    )

    def __init__(self, total_timeout_s: float, late: Callable[[], Exception]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._total_deadline = self._loop.time() + total_timeout_s
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._task: asyncio.Task[object] | None = None
        self._waiting = False
        self._fired = False

    async def wait(self, start: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """Await what ``start`` returns; the error of ``late`` if that takes longer than ``timeout_s``.

        The client underneath may return a result although its task was cancelled meanwhile, so after every
        wait the task itself is asked: a cancellation is never lost, whoever it came from.
        """
        cancellations = self.begin(timeout_s)
        try:
            return await start()
        finally:
            self.end(cancellations)

    def begin(self, timeout_s: float) -> int:
        """Begin a wait as ``wait`` does, for one that cannot afford a call around it; the result is for ``end``."""
        task = self._task
        if task is None:
            task = self._task = asyncio.current_task()
            assert task is not None
        self._set_deadline(timeout_s)
        self._waiting = True
        return task.cancelling()

    def end(self, cancellations: int) -> None:
        """End a wait, however it ended; raises what must not be lost."""
        self._waiting = False
        assert self._task is not None
        if self._task.cancelling() > cancellations:
            self._raise_cancellation(self._task, cancellations)

    def stop(self) -> None:
        """Let go of the timer; nothing is watched any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _raise_cancellation(self, task: "asyncio.Task[object]", cancellations: int) -> None:
        """Turn our own cancellation into a timeout and pass on anybody else's."""
        if self._fired and task.uncancel() <= cancellations:
            raise self._late() from None
        raise asyncio.CancelledError

    def _set_deadline(self, timeout_s: float) -> None:
        """Note when the wait that begins now must be over."""
        now = self._loop.time()
        self._deadline = min(now + timeout_s, self._total_deadline)
        if self._deadline <= now:
            raise self._late()
        if self._timer is None or self._deadline < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        self.stop()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """Cancel the wait that is overdue, or look again when the present one would be."""
        self._timer = None
        if self._task is None or not self._waiting:
            return
        if self._loop.time() < self._deadline:
            self._arm()
            return
        self._fired = True
        self._task.cancel()
