"""F24-F28: the machine gives out: the disk is full, fsync fails, descriptors run out, everybody comes at once."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.crash.client import Connection
from tests.crash.load import Account, Load, Traffic
from tests.crash.scenario import AT_REST_S, Scenario, Trial
from tests.fakes.supervisor import wait_until

SPOOL_BYTES = 32 * 1024
DESCRIPTORS = 160
HERD = 2_000
SPARE_DESCRIPTORS = 500
UNFAIR = 2.0
QUIET_REQUESTS = 400
CHAT = ("chat", False)


def needs_tmpfs() -> str | None:
    """A small file system of our own takes root and the right to mount."""
    if os.geteuid() != 0:
        return "only root can mount a small tmpfs"
    probe = Path("/tmp") / f"nusagate-tmpfs-{os.getpid()}"
    try:
        with small_disk(probe):
            return None
    except subprocess.CalledProcessError as error:
        return f"a tmpfs cannot be mounted here: {error.stderr.decode().strip()[:100]}"


def needs_strace() -> str | None:
    """Fsync is made to fail by strace, which must be there and be allowed to trace."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "strace may not trace here"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system with room for a few settlements."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={SPOOL_BYTES}", "nusagate-crash"]
    subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        folder.rmdir()


async def fill_the_disk(trial: Trial) -> None:
    """Postgres is away and the spool's disk is full: nobody gets an end that was not recorded."""
    with small_disk(trial.stand.folder / "small-disk") as disk:
        await asyncio.to_thread(trial.gateway.start, {"NUSAGATE_SPOOL_DIR": str(disk)})
        await _lose_postgres_with_streams(trial, lambda: (disk / "filler").write_bytes(b"x" * SPOOL_BYTES))
        for filler in disk.glob("filler*"):
            filler.unlink()
        await asyncio.to_thread(trial.stand.postgres.start)
        await _is_served_again(trial)
        await asyncio.to_thread(wait_until, lambda: not any(disk.glob("*.jsonl")), "the spool is empty", 20)
        await asyncio.to_thread(trial.gateway.drain)
    await asyncio.to_thread(trial.gateway.start)


async def fail_fsync(trial: Trial) -> None:
    """Fsync begins to fail, and Postgres goes: no answer ends on the spool's word; both come back, and it serves."""
    await asyncio.to_thread(trial.gateway.start)
    [served_by] = trial.gateway.worker_pids()
    injected = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO"]
    tracer = trial.stand.supervisor.add(
        f"strace-{trial.rng.getrandbits(24):x}",
        ["strace", "-f", "-qq", "-o", "/dev/null", *injected, "-p", str(served_by)],
        ready=lambda: "TracerPid:\t0\n" not in Path(f"/proc/{served_by}/status").read_text(),
    )
    await _lose_postgres_with_streams(trial, tracer.start)
    refused = [record for record in trial.traffic.seen if record.error_code == "internal_error"]
    trial.expect(bool(refused), "no answer was cut short on a broken spool")
    trial.interrupted += len(refused)
    await asyncio.to_thread(tracer.stop, number=signal.SIGINT)
    await asyncio.to_thread(trial.stand.postgres.start)
    await _is_served_again(trial)


async def _lose_postgres_with_streams(trial: Trial, before: Callable[[], object]) -> None:
    """Have streams under way, do something to the spool, take Postgres away, and let them come to their ends."""

    async def one(number: int) -> None:
        connection = Connection(trial.gateway.port)
        await trial.traffic.ask(connection, trial.traffic.load.shapes[number % 4])
        await connection.close()

    requests = asyncio.gather(*(one(number) for number in range(16)))
    await asyncio.sleep(1.0)
    with contextlib.suppress(OSError):
        await asyncio.to_thread(before)
    await asyncio.to_thread(trial.stand.postgres.kill)
    await requests
    trial.expect(any(not record.complete for record in trial.traffic.seen), "nothing went wrong")


async def _is_served_again(trial: Trial) -> None:
    """Ask until an answer is whole; the trial's deadline is the bound."""
    connection = Connection(trial.gateway.port)
    while not (await trial.traffic.ask(connection, CHAT)).complete:  # noqa: ASYNC110 - it asks, it does not wait
        await asyncio.sleep(0.1)
    await connection.close()


async def exhaust_descriptors(trial: Trial) -> None:
    """Take more connections than the gateway may have; those it serves go on, and it recovers by itself."""
    limited = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--"]
    await asyncio.to_thread(trial.gateway.start, wrapped_in=limited)
    flowing = asyncio.create_task(trial.traffic.flow())
    await trial.traffic.answered(5)
    writers = []
    for _ in range(DESCRIPTORS * 2):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.5):
                _, writer = await asyncio.open_connection("127.0.0.1", trial.gateway.port)
                writers.append(writer)
    await asyncio.sleep(2)
    for writer in writers:
        writer.transport.abort()
    began = time.monotonic()
    await trial.traffic.answered(10)
    trial.figure("recovered_in_s", time.monotonic() - began)
    trial.expect(trial.gateway.process.is_alive, "the gateway ended")
    trial.traffic.stopped = True
    await flowing
    # The limit was this life's; whatever runs on this stand next has the usual one.
    await asyncio.to_thread(trial.gateway.drain)
    await asyncio.to_thread(trial.gateway.start)


async def come_all_at_once(trial: Trial) -> None:
    """Restart the gateway and let 2,000 clients come at the same moment, with every cache cold."""
    herd = HERD if trial.full else HERD // 10
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, herd + SPARE_DESCRIPTORS)), hard))
    await asyncio.to_thread(trial.gateway.kill)
    await asyncio.to_thread(trial.gateway.start, trial.stand.patient)

    async def one() -> None:
        connection = Connection(trial.gateway.port)
        await trial.traffic.ask(connection, trial.rng.choice(trial.traffic.load.shapes))
        await connection.close()

    await asyncio.gather(*(one() for _ in range(herd)))
    trial.count("connections at once", herd)


async def be_one_hot_tenant(trial: Trial) -> None:
    """Let one account be nearly all the load; another one waits hardly longer than when many are the same load."""
    *many, quiet = trial.traffic.accounts
    spread_s = await _p99_beside(trial, many, quiet)
    hot_s = await _p99_beside(trial, many[:1], quiet)
    trial.figure("p99 beside many tenants, ms", spread_s * 1_000)
    trial.figure("p99 beside one hot tenant, ms", hot_s * 1_000)
    trial.figure("beside one hot tenant, times", hot_s / spread_s)
    trial.expect(hot_s / spread_s < UNFAIR, f"{hot_s / spread_s:.1f} times slower beside a hot tenant")


async def _p99_beside(trial: Trial, busy: Sequence[Account], quiet: Account) -> float:
    """How long 99 in 100 answers of one account take while others are the load."""
    load = Traffic(
        load=Load(clients=24, output=(4, 8), pace_ms=(0, 1)),
        accounts=busy,
        ports=lambda: [trial.gateway.port],
        rng=trial.rng,
        run=f"{trial.traffic.run}h{trial.rng.getrandbits(16)}",
        seen=trial.traffic.seen,
    )
    asking = Traffic(
        load=Load(clients=1, output=(4, 4), pace_ms=(0, 0)),
        accounts=[quiet],
        ports=lambda: [trial.gateway.port],
        rng=trial.rng,
        run=f"{trial.traffic.run}q{trial.rng.getrandbits(16)}",
    )
    flowing = asyncio.create_task(load.flow())
    await load.answered(50)
    connection = Connection(trial.gateway.port)
    times = sorted([(await asking.ask(connection, CHAT)).after_s for _ in range(QUIET_REQUESTS)])
    await connection.close()
    load.stopped = True
    await flowing
    trial.traffic.seen += asking.seen
    return times[len(times) * 99 // 100]


SCENARIOS = (
    Scenario(
        name="F24",
        says="the spool's disk is full: refused, nothing partial, and served again when there is room",
        strike=fill_the_disk,
        load=Load(clients=0, output=(60, 100), pace_ms=(20, 40)),
        accounts=(0, 3),
        starts_gateway=False,
        needs=needs_tmpfs,
        full=2,
    ),
    Scenario(
        name="F25",
        says="fsync fails: the spool is not believed, and no answer ends on its word",
        strike=fail_fsync,
        load=Load(clients=0, output=(60, 100), pace_ms=(20, 40)),
        accounts=(0, 3),
        starts_gateway=False,
        needs=needs_strace,
        short=0,
        full=2,
    ),
    Scenario(
        name="F26",
        says="descriptors run out: no crash, and service comes back by itself",
        strike=exhaust_descriptors,
        load=Load(clients=4, pace_ms=(1, 10)),
        accounts=(0, 3),
        starts_gateway=False,
        flows_at_once=False,
        short=0,
        full=1,
    ),
    Scenario(
        name="F27",
        says="everybody comes at once after a restart: everybody is answered",
        strike=come_all_at_once,
        idle_s=AT_REST_S,
        load=Load(clients=0, output=(4, 12), pace_ms=(0, 2)),
        accounts=(0, 20),
        allowed=frozenset({"complete"}),
        full=2,
    ),
    Scenario(
        name="F28",
        says="one account is nearly all the load: others are served as well",
        strike=be_one_hot_tenant,
        idle_s=AT_REST_S,
        load=Load(clients=0),
        accounts=(0, 9),
        allowed=frozenset({"complete"}),
        short=0,
        full=1,
    ),
)
