"""Background jobs: each on one process at a time, and none in the way of another."""

import asyncio

from gateway.db.pool import AdvisoryLease, open_pool
from gateway.runtime.jobs import Job, run_jobs
from gateway.runtime.settings import Limits


async def test_more_jobs_than_connections_all_get_their_turn(database_url):
    limits = Limits(database_pool_size=2)
    db = await open_pool(database_url, limits, application="tests")
    lease = AdvisoryLease(database_url, limits)
    ran = {f"job {number}": asyncio.Event() for number in range(8)}

    def job(name: str) -> Job:
        async def run(pool) -> None:
            await pool.fetchval("SELECT pg_sleep(0.01)")
            ran[name].set()

        return Job(name, 60, run)

    running = asyncio.create_task(run_jobs([job(name) for name in ran], db, lease))
    async with asyncio.timeout(10):
        await asyncio.gather(*(event.wait() for event in ran.values()))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await lease.close()
    await db.close()


async def test_a_job_that_another_process_is_doing_is_left_to_it(database_url):
    ours, theirs = (AdvisoryLease(database_url, Limits()) for _ in range(2))
    inside, done = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        inside.set()
        await done.wait()

    first = asyncio.create_task(ours(42, slow))
    await inside.wait()
    assert not await theirs(42, slow)
    done.set()
    assert await first
    assert await theirs(42, slow)
    for lease in (ours, theirs):
        await lease.close()
