"""The stand on which a trial happens: the whole product as processes, a database of its own, and the witnesses."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.clock import SystemClock
from gateway.db.migrate import migrate
from tests.crash.load import Account
from tests.fakes.joining import join
from tests.fakes.servers import PostgresServer
from tests.fakes.supervisor import Process, Supervisor, Unfit, free_port, status_of

ROOT = Path(__file__).parents[2]
COMMAND_MAX_S = 120
FREE_TOKENS = 10_000
PEPPER = "v1:the pepper of the crash tests"
CATALOGUE = """
[upstreams.simulator]
base_url = "http://127.0.0.1:{port}/v1"
dialect = "{dialect}"
connect_timeout_s = 2
first_byte_timeout_s = {first_byte_s}
idle_timeout_s = 3

[models."nusantara-base"]
upstreams = ["simulator"]
context_window = 131072
max_output_tokens = 65536
# One byte a token makes the input bound a true bound, so that limits are hard.
bytes_per_token_min = 1.0
prompt_overhead_tokens = 64
"""
FIRST_BYTE_S = 4
PATIENT_FIRST_BYTE_S = 60
LIMITS = {
    "NUSAGATE_HEARTBEAT_S": "1",
    "NUSAGATE_SWEEP_AFTER_S": "7",
    "NUSAGATE_DRAIN_TIMEOUT_S": "5",
    "NUSAGATE_SHUTDOWN_TIMEOUT_S": "4",
    "NUSAGATE_SLOW_CLIENT_TIMEOUT_S": "4",
    "NUSAGATE_BODY_TIMEOUT_S": "4",
}
"""Deadlines that fit into a test; what they mean does not depend on their length."""


class Stand:
    """Postgres, simulator, worker and one gateway, all started; more gateways and other roads can be added."""

    def __init__(self, supervisor: Supervisor, name: str, *, dialect: str) -> None:
        self.folder = supervisor.folder / name
        self.folder.mkdir()
        self.supervisor = supervisor
        self.name = name
        self.postgres = PostgresServer(supervisor, f"{name}-postgres")
        self.journal = self.folder / "simulator.jsonl"
        self.simulator_port = free_port()
        self._catalogue = self._write_catalogue("nusagate", dialect, FIRST_BYTE_S)
        self._patient_catalogue = self._write_catalogue("patient", dialect, PATIENT_FIRST_BYTE_S)
        self.simulator = self._program(
            "simulator",
            ["simulator", "--port", str(self.simulator_port), "--journal", str(self.journal)],
            self.simulator_port,
        )
        worker_port = free_port()
        self.worker = self._program("worker", ["worker", "--port", str(worker_port)], worker_port)
        self.gateways: list[Gateway] = []

    @property
    def database_url(self) -> str:
        """The straight way to the database, for the judge."""
        return self.postgres.url()

    @property
    def patient(self) -> dict[str, str]:
        """What a gateway is told that waits for the model as long as in life: a small model is slow for thousands at once."""
        return {"NUSAGATE_CONFIG": str(self._patient_catalogue)}

    def start(self) -> None:
        """Start everything but gateways."""
        self.postgres.start()
        self.postgres.sql("CREATE DATABASE nusagate")
        asyncio.run(_prepare(self.database_url))
        self.simulator.start()
        self.worker.start()

    def add_gateway(self, *, workers: int = 1) -> "Gateway":
        """Make one more gateway; it is not started yet."""
        gateway = Gateway(self, len(self.gateways), workers)
        self.gateways.append(gateway)
        return gateway

    def environment(self) -> dict[str, str]:
        """What every process of the product is told."""
        metrics = self.folder / "metrics"
        metrics.mkdir(exist_ok=True)
        return {
            **LIMITS,
            "NUSAGATE_DATABASE_URL": self.database_url,
            "NUSAGATE_CONFIG": str(self._catalogue),
            "NUSAGATE_KEY_PEPPER": PEPPER,
            "NUSAGATE_SESSION_SECRET": "v1:the session secret of the crash tests",
            "NUSAGATE_SPOOL_DIR": str(self.folder / "spool"),
            "NUSAGATE_REDIS_URL": "",
            "NUSAGATE_FAILPOINT": "",
            "TMPDIR": str(self.folder),
        }

    async def make_accounts(
        self, *, free: int, paying: int, month_tokens: int = FREE_TOKENS, tree: Path | None = None
    ) -> list[Account]:
        """Make new accounts with a key each; the free ones have a month limit, and nobody another one.

        With ``tree`` it is the version there that makes them.
        """
        plans = [("free", month_tokens)] * free + [("payg", None)] * paying
        if tree is None:
            made = await join(self.database_url, PEPPER, plans)
        else:
            made = json.loads(
                await asyncio.to_thread(
                    self.run,
                    tree,
                    str(ROOT / "tests/fakes/joining.py"),
                    self.database_url,
                    PEPPER,
                    json.dumps(plans),
                )
            )
        limits = [limit for _, limit in plans]
        return [Account(*ids, limit) for ids, limit in zip(made, limits, strict=True)]

    def run(self, tree: Path, *arguments: str) -> str:
        """Run a Python program or module with the product of a tree, and return what it said; ``Unfit`` if it failed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            env={**os.environ, **self.environment(), "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=COMMAND_MAX_S,
            check=False,
        )
        if done.returncode != 0:
            raise Unfit(f"{arguments}: {done.stderr.strip()[-600:]}")
        return done.stdout

    def empty_database(self) -> None:
        """Make the database anew, without a schema."""
        self.postgres.sql("DROP DATABASE nusagate WITH (FORCE)")
        self.postgres.sql("CREATE DATABASE nusagate")

    def stop(self) -> None:
        """End everything that was started here."""
        for process in (*(gateway.process for gateway in self.gateways), self.worker, self.simulator):
            process.kill()
        self.postgres.process.kill()

    def journal_length(self) -> int:
        """How many answers the simulator has written down so far."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def _write_catalogue(self, name: str, dialect: str, first_byte_s: int) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            CATALOGUE.format(port=self.simulator_port, dialect=dialect, first_byte_s=first_byte_s)
        )
        return path

    def _program(self, name: str, arguments: list[str], port: int, path: str = "/healthz") -> Process:
        return self.supervisor.add(
            f"{self.name}-{name}",
            [sys.executable, "-m", "admin.cli", *arguments],
            env=self.environment(),
            ready=lambda: status_of(port, path) == 200,
        )


class Gateway:
    """One gateway of a stand; ``serving`` says whether clients are sent to it."""

    def __init__(self, stand: Stand, number: int, workers: int) -> None:
        self.port = free_port()
        self.serving = False
        self.env_differs = False
        self.workers = workers
        self.restarts_s: list[float] = []
        self.process = stand._program(
            f"gateway{number}", ["gateway", "--port", str(self.port), "--workers", str(workers)], self.port
        )

    def start(self, env: Mapping[str, str] | None = None, *, wrapped_in: list[str] | None = None) -> None:
        """Start, or start again after a kill; ``env`` holds for this one life."""
        self.env_differs = bool(env)
        own = {"PROMETHEUS_MULTIPROC_DIR": str(self.process.log.parent)} if self.workers > 1 else {}
        self.restarts_s.append(self.process.start(env={**own, **(env or {})}, wrapped_in=wrapped_in))
        self.serving = True

    def kill(self) -> None:
        """Kill the server and its workers at once."""
        self.process.kill()

    def drain(self) -> int:
        """Ask it to end, as a rolling restart does; return its exit status."""
        return self.process.stop(deadline_s=30)

    def worker_pids(self) -> list[int]:
        """The processes that serve requests."""
        return [pid for pid in self.process.family[1:] if is_server(pid)]

    def resident_mib(self) -> int:
        """Memory of all its processes."""
        return sum(_resident_bytes(pid) for pid in self.process.family) // 2**20

    def descriptors(self) -> int:
        """Open files of all its processes."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.process.family)

    def ready_status(self) -> int | None:
        """What its readiness probe says."""
        return status_of(self.port, "/readyz")


def is_server(pid: int) -> bool:
    """Whether a child of the server's parent process serves requests, rather than watching over the others."""
    try:
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


async def _prepare(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await migrate(connection)
        async with connection.transaction():
            await apply_seed(connection, SystemClock(), load_seed(SEED_FILES))
    finally:
        await connection.close()
