"""I5 at full size: a thousand clients at once at the limit of one account, over four workers, again and again.

Each round has an account of its own, whose limit lets a small part of the thousand through. The rounds go on while
Redis is killed, frozen, emptied and restored from an old copy, and without any Redis.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from tests.crash.caches import EVERY_S, TROUBLES, redis_of
from tests.crash.client import Connection
from tests.crash.load import Load, Traffic
from tests.crash.scenario import AT_REST_S, Scenario, Trial
from tests.fakes.servers import RedisServer

CLIENTS = 1_000
ROUNDS = 100
SHORT_CLIENTS = 150
SHORT_ROUNDS = 3
WORKERS = 4
LIMIT_TOKENS = 6_000
ALLOWED = frozenset({"complete", "insufficient_quota", "limits_unavailable", "overloaded"})
NEAR_PERCENT = 80


async def without_redis(trial: Trial) -> None:
    """Postgres decides."""
    await asyncio.to_thread(trial.gateway.start)
    await _rounds(trial, "rounds")


async def with_redis(trial: Trial) -> None:
    """Redis decides."""
    async with redis_of(trial) as redis:
        await asyncio.to_thread(trial.gateway.start, {"NUSAGATE_REDIS_URL": redis.url})
        await _rounds(trial, "rounds with redis")
        await asyncio.to_thread(trial.gateway.drain)


async def with_chaos(trial: Trial) -> None:
    """Redis decides while it can, which is never for long."""
    async with redis_of(trial) as redis:
        await asyncio.to_thread(trial.gateway.start, {"NUSAGATE_REDIS_URL": redis.url})
        async with _chaos(trial, redis):
            await _rounds(trial, "rounds with chaos")
        await asyncio.to_thread(trial.gateway.drain)


@contextlib.asynccontextmanager
async def _chaos(trial: Trial, redis: RedisServer) -> AsyncIterator[None]:
    over = asyncio.Event()

    async def trouble() -> None:
        turn = 0
        while not over.is_set():
            await TROUBLES[turn % len(TROUBLES)](trial, redis)
            turn += 1
            trial.count("troubles")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), EVERY_S * trial.rng.uniform(0.5, 1))

    task = asyncio.create_task(trouble())
    try:
        yield
    finally:
        over.set()
        await task


async def _rounds(trial: Trial, counted_as: str) -> None:
    clients = CLIENTS if trial.full else SHORT_CLIENTS
    accounts = trial.traffic.accounts if trial.full else trial.traffic.accounts[:SHORT_ROUNDS]
    connections = [Connection(trial.gateway.port) for _ in range(clients)]
    for number, account in enumerate(accounts):
        traffic = Traffic(
            load=trial.traffic.load,
            accounts=[account],
            ports=lambda: [trial.gateway.port],
            rng=trial.rng,
            run=f"{trial.traffic.run}.{number}",
            seen=trial.traffic.seen,
        )
        shapes = [trial.rng.choice(trial.traffic.load.shapes) for _ in connections]
        await asyncio.gather(*map(traffic.ask, connections, shapes))
        trial.count(counted_as, int(clients == CLIENTS))
    for connection in connections:
        await connection.close()
    await _came_near(trial, [account.account_id for account in accounts])


async def _came_near(trial: Trial, account_ids: list[str]) -> None:
    """The limit was tried: what was used is near it in every round, and the checker says whether it was passed."""
    connection = await asyncpg.connect(trial.stand.database_url)
    used = await connection.fetch(
        "SELECT sum(quota_tokens)::bigint AS tokens FROM ledger_entry WHERE account_id = ANY($1::uuid[]) GROUP BY account_id",
        account_ids,
    )  # fmt: skip
    await connection.close()
    percents = [row["tokens"] * 100 // LIMIT_TOKENS for row in used] or [0]
    trial.figure("used at most, %", max(percents))
    trial.figure("used in half of the rounds, %", sorted(percents)[len(percents) // 2])
    trial.expect(
        len(used) == len(account_ids), f"only {len(used)} of {len(account_ids)} rounds served anything"
    )
    trial.expect(max(percents) >= NEAR_PERCENT, f"no round came nearer to its limit than {max(percents)} %")


ROWS = (
    ("I5-postgres", "a thousand at once at the limit, four workers: nobody passes it", without_redis, 0),
    ("I5-redis", "the same with Redis deciding", with_redis, 0),
    ("I5-chaos", "the same with Redis killed, frozen, emptied and restored meanwhile", with_chaos, 1),
)
SCENARIOS = tuple(
    Scenario(
        name=name,
        says=says,
        strike=strike,
        idle_s=AT_REST_S,
        load=Load(clients=0, output=(16, 30), pace_ms=(0, 4), exact=True),
        workers=WORKERS,
        accounts=(ROUNDS, 0),
        month_tokens=LIMIT_TOKENS,
        allowed=ALLOWED,
        starts_gateway=False,
        short=short,
        full=1,
        strike_full_s=1_500,
    )
    for name, says, strike, short in ROWS
)
