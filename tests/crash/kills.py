"""F1, F2, F34: gateways and workers that die, at random, at named places, and because they are asked to."""

import asyncio
import signal
import time

from tests.crash import points
from tests.crash.caches import redis_of
from tests.crash.client import Connection
from tests.crash.load import SHAPES, Load, Shape
from tests.crash.points import Matrix
from tests.crash.scenario import Scenario, Trial
from tests.crash.stand import Gateway, is_server
from tests.fakes.supervisor import Unfit, is_running, wait_until

RESTART_MAX_S = 10
HIT_MAX_S = 8
THINKS = "delay_ms=1500"
"""Keeps requests open until something is killed, in every shape: an answer that is no stream has no pace."""

DRAINED = frozenset({"complete", "upstream_unavailable", "insufficient_quota"})


async def kill_at_random(trial: Trial) -> None:
    """Kill the gateway, or one of its workers, in the middle of its answers, and start it again, many times."""
    gateway = trial.gateway
    for _ in range(12 if trial.full else 4):
        await trial.traffic.answered(trial.rng.randint(1, 12))
        await asyncio.sleep(trial.rng.uniform(0, 0.3))
        if trial.rng.random() < 0.3 and (pids := gateway.worker_pids()):
            victim = trial.rng.choice(pids)
            gateway.process.send(signal.SIGKILL, victim)
            await asyncio.to_thread(_wait_for_heir, gateway, victim)
            continue
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        trial.figure("restart_max_s", gateway.restarts_s[-1])
        trial.expect(gateway.restarts_s[-1] < RESTART_MAX_S, f"restart took {gateway.restarts_s[-1]:.1f} s")


async def die_at_every_point(trial: Trial) -> None:
    """Let the gateway die at each failpoint of the request path, in each shape of answer, Redis' own with Redis."""
    await _die_at_all(trial, _some(trial, points.REQUEST, 2), {})
    async with redis_of(trial) as redis:
        await _die_at_all(trial, _some(trial, points.REDIS, 1), {"NUSAGATE_REDIS_URL": redis.url})


def _some(trial: Trial, matrix: Matrix, count: int) -> Matrix:
    """All points in the full form, and by the seed some of them in the short one."""
    return matrix if trial.full else dict(trial.rng.sample(sorted(matrix.items()), count))


async def _die_at_all(trial: Trial, matrix: Matrix, env: dict[str, str]) -> None:
    for point, shapes in matrix.items():
        for endpoint, stream in shapes:
            await asyncio.to_thread(trial.gateway.start, {**env, "NUSAGATE_FAILPOINT": point})
            reached = await _die_at(trial, endpoint, stream=stream)
            await asyncio.to_thread(trial.gateway.kill)
            trial.expect(reached, f"{point} was not reached for {endpoint}, stream {stream}")
            trial.count("points", int(reached))


async def _die_at(trial: Trial, endpoint: str, *, stream: bool) -> bool:
    """Ask once, and say whether the worker that served it died."""
    gateway = trial.gateway
    [victim] = gateway.worker_pids()
    connection = Connection(gateway.port)
    await trial.traffic.ask(connection, (endpoint, stream))
    await connection.close()
    try:
        await asyncio.to_thread(wait_until, lambda: not is_running(victim), "the worker died", HIT_MAX_S)
    except Unfit:
        return False
    return True


def _wait_for_heir(gateway: Gateway, victim: int) -> None:
    """Wait until a killed worker is gone and its server has another one that serves."""
    wait_until(lambda: not is_running(victim), "the worker died", HIT_MAX_S)
    wait_until(lambda: len(gateway.worker_pids()) == gateway.workers, "a new worker was made", HIT_MAX_S)
    gateway.process.wait_until_ready()


async def die_in_the_sweeper(trial: Trial) -> None:
    """Leave requests of one shape open, and let the worker die around the commit that would end them."""
    for point, shapes in points.SWEEPER.items():
        for shape in shapes:
            asking = await _open_many(trial, shape)
            await asyncio.to_thread(trial.gateway.kill)
            await asking
            await asyncio.to_thread(trial.stand.worker.kill)
            await asyncio.to_thread(trial.stand.worker.start, env={"NUSAGATE_FAILPOINT": point})
            victims = [pid for pid in trial.stand.worker.family[1:] if is_server(pid)]
            await asyncio.to_thread(_wait_for_deaths, victims)
            await asyncio.to_thread(trial.stand.worker.kill)
            await asyncio.to_thread(trial.stand.worker.start)
            await asyncio.to_thread(trial.gateway.start)
            trial.count("points")


async def _open_many(trial: Trial, shape: Shape) -> "asyncio.Task[None]":
    """Ask, and wait until some of these requests are open: those of a death before may be open still."""

    def said(question: str) -> str:
        return trial.stand.postgres.sql(question, "nusagate")

    began = await asyncio.to_thread(said, "SELECT clock_timestamp()")
    opened = f"SELECT count(*) FROM request_intent WHERE state = 'open' AND admitted_at > '{began}'"
    asking = asyncio.create_task(_ask_many(trial, shape))
    await asyncio.to_thread(wait_until, lambda: int(said(opened)) > 0, "requests are open", 20)
    return asking


async def die_with_a_spool(trial: Trial) -> None:
    """With Postgres away, die right after a settlement went to disk; then die around its replay, twice."""
    gateway, postgres = trial.gateway, trial.stand.postgres
    spool = trial.stand.folder / "spool"
    for shape in SHAPES if trial.full else trial.rng.sample(SHAPES, 1):
        await asyncio.to_thread(gateway.start, {"NUSAGATE_FAILPOINT": "spool.after_write"})
        asking = await _open_many(trial, shape)
        [victim] = gateway.worker_pids()
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(wait_until, lambda pid=victim: not is_running(pid), "died at the spool", 20)
        await asyncio.to_thread(gateway.kill)
        await asking
        trial.expect(any(spool.glob("*.jsonl")), "nothing was spooled")
        await asyncio.to_thread(postgres.start)
        for point in ("spool.before_replay", "spool.after_replay"):
            await asyncio.to_thread(gateway.start, {"NUSAGATE_FAILPOINT": point})
            pids = gateway.worker_pids()
            await asyncio.to_thread(_wait_for_deaths, pids)
            await asyncio.to_thread(gateway.kill)
        trial.count("points", len(points.SPOOL))
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(wait_until, lambda: not any(spool.glob("*.jsonl")), "the spool is empty", 20)
        await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)


def _wait_for_deaths(pids: list[int]) -> None:
    wait_until(lambda: not any(map(is_running, pids)), "the failpoint was reached", 30)


async def _ask_many(trial: Trial, shape: Shape) -> None:
    async def one() -> None:
        connection = Connection(trial.gateway.port)
        await trial.traffic.ask(connection, shape)
        await connection.close()

    await asyncio.gather(*(one() for _ in range(12)))


async def drain_streams(trial: Trial) -> None:
    """Ask a gateway with 50 live streams to end: it takes no more, and every stream ends in its own words."""
    gateway = trial.gateway
    await trial.traffic.answered(1)
    trial.traffic.stopped = True
    began = time.monotonic()
    gateway.process.send(signal.SIGTERM)
    await asyncio.sleep(0.3)
    trial.expect(await asyncio.to_thread(gateway.ready_status) != 200, "still ready while draining")
    status = await asyncio.to_thread(gateway.process.wait_for_end, 40)
    trial.figure("drained_in_s", time.monotonic() - began)
    trial.expect(status == 0, f"exit status {status} ({gateway.process.last_words()})")


SCENARIOS = (
    Scenario(
        name="F1-random",
        says="a gateway killed at random moments loses and doubles nothing",
        strike=kill_at_random,
        load=Load(clients=24, pace_ms=(5, 40)),
        short=1,
        full=13,
    ),
    Scenario(
        name="F1-workers",
        says="the same with two workers behind one port",
        strike=kill_at_random,
        load=Load(clients=24, pace_ms=(5, 40)),
        workers=2,
        short=0,
        full=3,
    ),
    Scenario(
        name="F1-points",
        says="a gateway that dies at any named point of a request, in any shape, loses and doubles nothing",
        strike=die_at_every_point,
        load=Load(clients=0, output=(4, 8), pace_ms=(1, 3)),
        starts_gateway=False,
        points=(*points.REQUEST, *points.REDIS),
        full=1,
    ),
    Scenario(
        name="F1-sweeper",
        says="a worker that dies around the sweeper's commit sweeps once",
        strike=die_in_the_sweeper,
        load=Load(clients=0, output=(60, 100), pace_ms=(20, 40), directives=(THINKS,)),
        points=tuple(points.SWEEPER),
        short=0,
        full=1,
    ),
    Scenario(
        name="F1-spool",
        says="a gateway that dies around its spool replays it once",
        strike=die_with_a_spool,
        load=Load(clients=0, output=(100, 150), pace_ms=(20, 40), directives=(THINKS,)),
        starts_gateway=False,
        points=tuple(points.SPOOL),
        full=1,
    ),
    Scenario(
        name="F2",
        says="SIGTERM with 50 live streams: they finish or are told, everything is settled, exit 0",
        strike=drain_streams,
        load=Load(
            clients=50, output=(20, 60), pace_ms=(60, 160), shapes=(("chat", True), ("responses", True))
        ),
        allowed=DRAINED,
        accounts=(0, 3),
        full=3,
    ),
)
