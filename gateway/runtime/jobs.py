"""Background work: small jobs that run again and again, each on one process at a time.

A job is leased with an advisory lock in Postgres, so any number of workers may run beside each other. A job that
fails is logged, counted, and tried again at its next turn.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.runtime import metrics
from gateway.runtime.logging import describe, get_logger

log = get_logger("jobs")

Db = TypeVar("Db")


class Job(msgspec.Struct, Generic[Db], frozen=True):
    """One piece of work: what it is called, how often it runs, and what it does."""

    name: str
    every_s: float
    run: Callable[[Db], Awaitable[object]]

    @property
    def lock_id(self) -> int:
        """The advisory lock of the job, the same in every version and process."""
        return int.from_bytes(
            hashlib.sha256(f"nusagate job {self.name}".encode()).digest()[:8], "big", signed=True
        )


class Lease(Protocol):
    """Runs work while holding a lock; returns without running it when another process holds the lock."""

    async def __call__(self, lock_id: int, work: Callable[[], Awaitable[object]], /) -> bool:
        """Return whether the work was done."""
        ...


async def run_jobs(jobs: Sequence[Job[Db]], db: Db, lease: Lease) -> None:
    """Run all jobs until cancelled; each has a timer of its own, so that a slow one holds up no other."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_repeat(job, db, lease))


async def _repeat(job: Job[Db], db: Db, lease: Lease) -> None:
    while True:
        try:
            ran = await lease(job.lock_id, lambda: job.run(db))
            metrics.job_runs_total.labels(job.name, "ran" if ran else "elsewhere").inc()
        except Exception as error:  # the next turn may go better, and the other jobs must go on
            metrics.job_runs_total.labels(job.name, "failed").inc()
            log.error("job failed", job=job.name, **describe(error))
        await asyncio.sleep(job.every_s)
