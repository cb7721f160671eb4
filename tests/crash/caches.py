"""F3-F6: Redis is killed, frozen, emptied, and brought back with what it knew long ago, under load at the limit."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from tests.crash.load import Load
from tests.crash.scenario import AT_REST_S, Scenario, Trial
from tests.crash.stand import Gateway
from tests.fakes.servers import RedisServer
from tests.fakes.supervisor import POLL_S, page_of

EVERY_S = 2
AGAIN_MAX_S = 20
ALLOWED = frozenset({"complete", "insufficient_quota", "limits_unavailable"})
Trouble: TypeAlias = Callable[[Trial, RedisServer], Awaitable[None]]


async def kill(trial: Trial, redis: RedisServer) -> None:
    """Redis dies and comes back empty."""
    await asyncio.to_thread(redis.process.kill)
    await asyncio.sleep(trial.rng.uniform(0, 0.6))
    await asyncio.to_thread(redis.process.start)


async def freeze(trial: Trial, redis: RedisServer) -> None:
    """Redis stands still, and goes on where it was."""
    redis.process.send(signal.SIGSTOP)
    await asyncio.sleep(trial.rng.uniform(0.05, 0.8))
    redis.process.send(signal.SIGCONT)


async def empty(_trial: Trial, redis: RedisServer) -> None:
    """Redis forgets everything between two commands."""
    await asyncio.to_thread(redis.ask, b"FLUSHALL")


async def restore_old(trial: Trial, redis: RedisServer) -> None:
    """Redis comes back with a copy that was made a while ago, keys and all."""
    await asyncio.to_thread(redis.ask, b"SAVE")
    await asyncio.sleep(trial.rng.uniform(0.2, 0.8))
    await asyncio.to_thread(redis.process.kill)
    await asyncio.to_thread(redis.process.start)


@contextlib.asynccontextmanager
async def redis_of(trial: Trial) -> AsyncIterator[RedisServer]:
    """A Redis of this trial's own."""
    redis = RedisServer(trial.stand.supervisor, f"{trial.stand.name}-redis{trial.rng.getrandbits(24):x}")
    await asyncio.to_thread(redis.process.start)
    try:
        yield redis
    finally:
        await asyncio.to_thread(redis.process.kill)


async def _redis_decides_again(trial: Trial, gateways: list[Gateway]) -> None:
    """Redis is believed again soon after it is back, and what it needs to know is read anew on demand."""
    began = time.monotonic()
    wanted = b'nusagate_quota_engine{engine="redis"} 1.0'
    async with asyncio.timeout(AGAIN_MAX_S):
        for gateway in gateways:
            while wanted not in await asyncio.to_thread(page_of, gateway.port, "/metrics"):  # noqa: ASYNC110 - asked of another process
                await asyncio.sleep(POLL_S)
    trial.figure("redis again in s", time.monotonic() - began)


TROUBLES: tuple[Trouble, ...] = (kill, freeze, empty, restore_old)


def under(*troubles: Trouble) -> Callable[[Trial], Awaitable[None]]:
    """Make the strike in which one of these troubles comes every two seconds."""

    async def strike(trial: Trial) -> None:
        async with redis_of(trial) as redis:
            with_redis = {"NUSAGATE_REDIS_URL": redis.url}
            others = [trial.gateway, *(one for one in trial.stand.gateways if one is not trial.gateway)][:2]
            for gateway in others:
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(gateway.start, with_redis)
            flowing = asyncio.create_task(trial.traffic.flow())
            for turn in range(10 if trial.full else 2):
                await asyncio.sleep(EVERY_S * trial.rng.uniform(0.5, 1))
                await troubles[turn % len(troubles)](trial, redis)
                await _redis_decides_again(trial, others)
            await trial.traffic.answered(5)
            trial.traffic.stopped = True
            await flowing
            for gateway in others:
                gateway.serving = False
                await asyncio.to_thread(gateway.drain)

    return strike


AT_THE_LIMIT = Load(clients=24, output=(4, 30), pace_ms=(0, 4))
ROWS = (
    ("F3", "Redis killed: Postgres decides, no limit is passed", (kill,), 1),
    ("F4", "Redis frozen: Postgres decides, no limit is passed", (freeze,), 1),
    ("F5", "Redis emptied: read anew, no limit is passed", (empty,), 1),
    ("F6", "Redis restored from an old copy: not believed, no limit is passed", (restore_old,), 1),
    ("F3-F6", "all of it by turns, every two seconds", TROUBLES, 0),
)
SCENARIOS = tuple(
    Scenario(
        name=name,
        says=says,
        strike=under(*troubles),
        idle_s=AT_REST_S,
        load=AT_THE_LIMIT,
        short=short,
        full=4,
        accounts=(8, 1),
        month_tokens=4_000,
        allowed=ALLOWED,
        starts_gateway=False,
        flows_at_once=False,
    )
    for name, says, troubles, short in ROWS
)
