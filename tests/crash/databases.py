"""F7-F10, F29: Postgres is killed, stopped, frozen, failed over, cut off in the middle of a commit, or fully taken."""

import asyncio
import time

from tests.crash.load import Load
from tests.crash.scenario import Scenario, Trial
from tests.fakes.servers import PostgresServer
from tests.fakes.supervisor import wait_until
from tests.fakes.toxic import Mode, running_proxy

REFUSED_MAX_S = 0.25
OUTAGE_S = 2.5
LONG_OUTAGE_S = 9
RECOVERY_MAX_S = 15
GRACEFUL = frozenset({"complete", "limits_unavailable", "insufficient_quota"})
"""How clients may fare while Postgres is away: their streams end, new requests are refused, nothing is cut."""
LOAD = Load(clients=12, pace_ms=(5, 60), pause_s=0.02)


async def _recovers(trial: Trial) -> None:
    """Without a restart, requests are served again soon after Postgres is back."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(RECOVERY_MAX_S):
            await trial.traffic.answered(12)
    except TimeoutError:
        trial.expect(False, f"nothing was served in {RECOVERY_MAX_S} s after Postgres was back")
    trial.figure("recovered_in_s", time.monotonic() - began)


def _spool_is_empty(trial: Trial) -> None:
    spool = trial.stand.folder / "spool"
    wait_until(lambda: not any(spool.glob("*.jsonl")), "the spool is empty", 20)


def _measure_refusals(trial: Trial) -> None:
    """How long it took to be refused; the median, because the machine is shared."""
    waits = sorted(one.after_s for one in trial.traffic.seen if one.outcome == "limits_unavailable")
    trial.expect(bool(waits), "nobody was refused while Postgres was away")
    if waits:
        trial.figure("refused_in_s_p50", waits[len(waits) // 2])
        trial.figure("refused_in_s_max", waits[-1])
        trial.expect(waits[len(waits) // 2] < REFUSED_MAX_S, f"refused after {waits[len(waits) // 2]:.3f} s")


async def kill_postgres(trial: Trial) -> None:
    """Kill the postmaster under load, and start it again."""
    for _ in range(4 if trial.full else 1):
        await trial.traffic.answered(10)
        await asyncio.to_thread(trial.stand.postgres.kill)
        trial.count("postgres kills")
        await asyncio.sleep(trial.rng.uniform(0.5, OUTAGE_S))
        await asyncio.to_thread(trial.stand.postgres.start)
        await _recovers(trial)
    _measure_refusals(trial)


async def stop_postgres(trial: Trial) -> None:
    """Stop Postgres without a word under load, and start it again."""
    for _ in range(4 if trial.full else 1):
        await trial.traffic.answered(10)
        await asyncio.to_thread(trial.stand.postgres.stop_immediately)
        await asyncio.sleep(trial.rng.uniform(0.5, OUTAGE_S))
        await asyncio.to_thread(trial.stand.postgres.start)
        await _recovers(trial)
    _measure_refusals(trial)


async def freeze_postgres(trial: Trial) -> None:
    """Stop every process of Postgres where it stands, and let it go on."""
    for _ in range(3 if trial.full else 1):
        await trial.traffic.answered(10)
        trial.stand.postgres.process.freeze()
        await asyncio.sleep(trial.rng.uniform(0.5, OUTAGE_S))
        trial.stand.postgres.process.thaw()
        await _recovers(trial)
    _measure_refusals(trial)


async def lose_postgres_for_long(trial: Trial) -> None:
    """Keep Postgres away for longer than a gateway may be silent: nobody that lives is taken for dead."""
    await trial.traffic.answered(10)
    await asyncio.to_thread(trial.stand.postgres.kill)
    await asyncio.sleep(LONG_OUTAGE_S)
    await asyncio.to_thread(trial.stand.postgres.start)
    await _recovers(trial)
    _measure_refusals(trial)


async def fail_over(trial: Trial) -> None:
    """Kill a primary with a synchronous standby, and promote the standby."""
    stand, primary = trial.stand, trial.stand.postgres
    standby = await asyncio.to_thread(
        PostgresServer, stand.supervisor, f"{stand.name}-standby", follow=primary
    )
    await asyncio.to_thread(standby.start)
    await asyncio.to_thread(primary.set, "synchronous_standby_names = '*'")
    synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
    await asyncio.to_thread(wait_until, lambda: primary.sql(synchronous) == "1", "the standby is in step", 20)
    both = (
        f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/nusagate"
        "?target_session_attrs=read-write"
    )
    for process in (trial.gateway.process, stand.worker):
        process.env["NUSAGATE_DATABASE_URL"] = both
        await asyncio.to_thread(process.stop)
        await asyncio.to_thread(process.start)
    trial.gateway.serving = True
    trial.traffic.seen.clear()
    await trial.traffic.answered(10)
    began = time.monotonic()
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(standby.promote)
    stand.postgres = standby
    await trial.traffic.answered(3)
    trial.figure("failed_over_in_s", time.monotonic() - began)
    await _recovers(trial)


async def lose_answers_of_commits(trial: Trial) -> None:
    """Cut the connection after Postgres has committed and before the gateway hears of it."""
    with running_proxy(("127.0.0.1", trial.stand.postgres.port), seed=trial.rng.getrandbits(32)) as proxy:
        through = {"NUSAGATE_DATABASE_URL": trial.stand.postgres.url(port=proxy.port)}
        await asyncio.to_thread(trial.gateway.start, through)
        flowing = asyncio.create_task(trial.traffic.flow())
        for marker in (b'"end_reason"', b'"output_min"'):
            await trial.traffic.answered(10)
            proxy.marker, proxy.chance = marker, 0.3
            await asyncio.to_thread(proxy.set, Mode.CUT_BEFORE_ANSWER)
            await asyncio.sleep(6 if trial.full else 2)
            await asyncio.to_thread(proxy.set, Mode.PASS)
            await _recovers(trial)
        trial.traffic.stopped = True
        await flowing
        trial.figure("cuts", proxy.cuts)
        trial.expect(proxy.cuts > 0, "no connection was cut")
        trial.interrupted += proxy.cuts
        # What is spooled is settled before the road through the proxy is closed.
        await asyncio.to_thread(_spool_is_empty, trial)
        await asyncio.to_thread(trial.gateway.drain)
    await asyncio.to_thread(trial.gateway.start)


async def misbehave_on_the_way(trial: Trial) -> None:
    """Put every other kind of trouble between the gateway and Postgres."""
    with running_proxy(("127.0.0.1", trial.stand.postgres.port), seed=trial.rng.getrandbits(32)) as proxy:
        through = {"NUSAGATE_DATABASE_URL": trial.stand.postgres.url(port=proxy.port)}
        await asyncio.to_thread(trial.gateway.start, through)
        flowing = asyncio.create_task(trial.traffic.flow())
        for mode in (Mode.LATENCY, Mode.SLICE, Mode.HANG, Mode.RESET, Mode.LIMIT, Mode.SLOW_CLOSE, Mode.DOWN):
            await trial.traffic.answered(5)
            await asyncio.to_thread(proxy.set, mode)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(proxy.set, Mode.PASS)
            await _recovers(trial)
            # Troubles in a row would keep the gateway from Postgres for longer than a sweeper waits that is not cut off.
            await asyncio.to_thread(_spool_is_empty, trial)
        trial.traffic.stopped = True
        await flowing
        await asyncio.to_thread(_spool_is_empty, trial)
        await asyncio.to_thread(trial.gateway.drain)
    await asyncio.to_thread(trial.gateway.start)


async def hold_all_connections(trial: Trial) -> None:
    """Lock what every admission needs: all connections of the pool wait, and requests are refused, not hung."""
    await trial.traffic.answered(10)
    lock = "BEGIN; LOCK TABLE quota_gate IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT"
    await asyncio.to_thread(trial.stand.postgres.sql, lock, "nusagate")
    await _recovers(trial)


SCENARIOS = (
    Scenario(
        name="F7-kill",
        says="Postgres killed: streams in flight end, new requests get 503 at once, no restart is needed",
        strike=kill_postgres,
        load=LOAD,
        allowed=GRACEFUL,
    ),
    Scenario(
        name="F7-stop",
        says="the same when it is stopped immediately",
        strike=stop_postgres,
        load=LOAD,
        allowed=GRACEFUL,
        short=0,
    ),
    Scenario(
        name="F7-long",
        says="the same when it is away for longer than a gateway may be silent",
        strike=lose_postgres_for_long,
        load=Load(clients=12, output=(20, 60), pace_ms=(20, 200), pause_s=0.02),
        allowed=GRACEFUL,
        full=2,
    ),
    Scenario(
        name="F8",
        says="the same when it is frozen and goes on",
        strike=freeze_postgres,
        load=LOAD,
        allowed=GRACEFUL,
    ),
    Scenario(
        name="F9",
        says="the same when a synchronous standby takes over",
        strike=fail_over,
        load=LOAD,
        own_stand=True,
        short=0,
        full=2,
    ),
    Scenario(
        name="F10",
        says="a connection cut between a commit and its answer: the repetition changes nothing",
        strike=lose_answers_of_commits,
        load=Load(clients=12, pace_ms=(2, 20)),
        starts_gateway=False,
        flows_at_once=False,
        allowed=GRACEFUL,
        full=3,
    ),
    Scenario(
        name="F10-way",
        says="latency, slices, hangs, resets and less on the way to Postgres lose and double nothing",
        strike=misbehave_on_the_way,
        load=Load(clients=12, pace_ms=(2, 20)),
        starts_gateway=False,
        flows_at_once=False,
        short=0,
        full=2,
    ),
    Scenario(
        name="F29",
        says="all connections of the pool are held: refused in time, and served again after",
        strike=hold_all_connections,
        load=LOAD,
        allowed=GRACEFUL,
        short=0,
        full=2,
    ),
)
