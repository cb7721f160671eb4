"""Everything that a run needs, started on its own cores and stopped whatever happens."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import msgspec

from gateway.accounts import service as accounts
from gateway.cli.seeding import SEED_FILES, Seed, apply_seed, load_seed
from gateway.clock import SystemClock
from gateway.db.embedded import EmbeddedPostgres
from gateway.db.migrate import migrate
from gateway.db.pool import open_connection
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.runtime.settings import Limits
from gateway.units import Currency
from tests.bench import bare
from tests.bench.machine import DESCRIPTORS_WANTED, Cores, children, cpu_s, reaped_s
from tests.bench.nginx import fixed_upstream, plain_proxy
from tests.fakes.processes import ChildProcess, free_port

TOOLS = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
REDIS_TOOL = {"redis-server": "redis-server"}
"""Programs, and the Debian packages that have them."""

PLAN = "enterprise"
"""Metered, and nothing is limited: every admission and settlement is made in full, and none is refused."""

ACCOUNTS = 64
MODEL = "nusantara-base"
CHAT_MODEL = "nusantara-chat"
"""The same model for the same price, behind an upstream that is asked in the wire format of chat."""

STREAM_MODEL = "smollm2-135m"
PEPPER = "the pepper of the benchmark"
CATALOGUE = """\
[upstreams.fixed]
base_url = "http://127.0.0.1:{fixed}/v1"
dialect = "responses"

[upstreams.fixed-chat]
base_url = "http://127.0.0.1:{fixed}/v1"
dialect = "chat"

[upstreams.streams]
base_url = "http://127.0.0.1:{streams}/v1"
dialect = "chat"

[models."nusantara-base"]
upstreams = ["fixed"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64

[models."nusantara-chat"]
upstreams = ["fixed-chat"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64

[models."smollm2-135m"]
upstreams = ["streams"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""


class BenchFailed(Exception):
    """The benchmark cannot run; the message says in one sentence why."""


class Ports(msgspec.Struct, frozen=True):
    """Where everything listens."""

    fixed: int
    streams: int
    proxy: int
    bare: int
    gateway: int
    redis: int


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """What runs while the scenarios measure."""

    folder: Path
    cores: Cores
    ports: Ports
    database_url: str
    keys: tuple[str, ...]
    postmaster: int
    proxy: int
    bare: int
    gateway: int

    @property
    def load_command(self) -> list[str]:
        """The prefix that keeps a load generator off the subject's core."""
        return pinned(self.cores.others)

    def database_cpu_s(self) -> float:
        """Return the seconds of CPU that the connections of the database have used, those that ended included."""
        running = sum(cpu_s(pid) for pid in (self.postmaster, *children(self.postmaster)))
        return running + reaped_s(self.postmaster)


def pinned(cores: frozenset[int]) -> list[str]:
    """Return the command that runs another one on these cores only."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


def require_tools(*, redis: bool) -> None:
    """Install what is missing where that is possible; ``BenchFailed`` names it where it is not."""
    os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))
    tools = TOOLS | (REDIS_TOOL if redis else {})
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    if not missing:
        return
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchFailed(f"The benchmark needs {' and '.join(missing)}; on Debian: sudo {' '.join(install)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], install):
        if subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise BenchFailed(f"`{' '.join(command)}` failed; the benchmark needs {' and '.join(missing)}.")


@contextlib.contextmanager
def running_stand(*, redis: bool = False) -> Iterator[Stand]:
    """Start the database, the upstreams, the proxy and the gateway; stop them all at the end.

    With ``redis`` the limits are decided there, otherwise in Postgres alone.
    """
    require_tools(redis=redis)
    cores = Cores.choose()
    # Children inherit it, so that nothing but the subjects ever runs on the subjects' core.
    os.sched_setaffinity(0, cores.others)
    raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nusagate-bench-", dir="/tmp")))
        folder.chmod(0o755)
        postgres = EmbeddedPostgres(folder / "postgres")
        stack.callback(postgres.close)
        texts = asyncio.run(_prepare(postgres.url))
        ports = Ports(*(free_port() for _ in Ports.__struct_fields__))
        fixed = fixed_upstream(folder, ports.fixed, command=pinned(cores.others))
        stack.callback(fixed.stop)
        streams = ChildProcess(
            [sys.executable, "-m", "tests.bench.streams", str(ports.streams)], output=folder / "streams.log"
        )
        stack.callback(streams.stop)
        subject = pinned(frozenset({cores.subject}))
        proxy = plain_proxy(
            folder, ports.proxy, fixed_port=ports.fixed, streams_port=ports.streams, command=subject
        )
        stack.callback(proxy.stop)
        floor = bare.start(
            folder, ports.bare, fixed_port=ports.fixed, streams_port=ports.streams, command=subject
        )
        stack.callback(floor.stop)
        environ = {"NUSAGATE_DATABASE_URL": postgres.url}
        if redis:
            environ["NUSAGATE_REDIS_URL"] = f"redis://127.0.0.1:{ports.redis}/0"
            server = ChildProcess(
                ["redis-server", "--port", str(ports.redis), "--save", "", "--dir", str(folder)],
                output=folder / "redis.log",
            )
            stack.callback(server.stop)
            server.wait_for_port(ports.redis)
        gateway = _start_gateway(folder, environ, ports, command=subject)
        stack.callback(gateway.stop)
        for process, port in ((fixed, ports.fixed), (streams, ports.streams), (proxy, ports.proxy)):
            process.wait_for_http(port)
        floor.wait_for_http(ports.bare)
        gateway.wait_for_http(ports.gateway, "/readyz", deadline_s=30)
        yield Stand(
            folder=folder,
            cores=cores,
            ports=ports,
            database_url=postgres.url,
            keys=texts,
            postmaster=int((folder / "postgres" / "postmaster.pid").read_text().split()[0]),
            proxy=proxy.pid,
            bare=_worker_of(floor.pid),
            gateway=_worker_of(gateway.pid),
        )


def raise_descriptor_limit() -> int:
    """Raise the limit on open files as far as allowed, for this process and its children; return it."""
    import resource  # noqa: PLC0415 - not on every system that can read this file

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_WANTED, max(hard, DESCRIPTORS_WANTED)))
        return DESCRIPTORS_WANTED
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _start_gateway(
    folder: Path, environ: dict[str, str], ports: Ports, *, command: list[str]
) -> ChildProcess:
    catalogue = folder / "nusagate.toml"
    catalogue.write_text(CATALOGUE.format(fixed=ports.fixed, streams=ports.streams))
    environ = {
        **environ,
        "NUSAGATE_SPOOL_DIR": str(folder / "spool"),
        "NUSAGATE_KEY_PEPPER": f"v1:{PEPPER}",
        "NUSAGATE_CONFIG": str(catalogue),
    }
    arguments = [sys.executable, "-m", "admin.cli", "gateway", "--port", str(ports.gateway), "--workers", "1"]
    return ChildProcess([*command, *arguments], output=folder / "gateway.log", env=environ)


def _worker_of(parent: int) -> int:
    """Return the worker that serves; the parent's other child only tracks what processes share."""
    return max(children(parent), key=lambda pid: len(Path(f"/proc/{pid}/maps").read_bytes()))


async def _prepare(database_url: str) -> tuple[str, ...]:
    connection = await open_connection(database_url, Limits(), application="nusagate-bench")
    try:
        await migrate(connection)
        async with connection.transaction():
            await apply_seed(connection, SystemClock(), _with_chat_model(load_seed(SEED_FILES)))
        return tuple([await _make_key(connection, number) for number in range(ACCOUNTS)])
    finally:
        await connection.close()


def _with_chat_model(seed: Seed) -> Seed:
    books = tuple(
        msgspec.structs.replace(book, rates={**book.rates, CHAT_MODEL: book.rates[MODEL]})
        for book in seed.price_books
    )
    return msgspec.structs.replace(seed, price_books=books)


async def _make_key(connection: "asyncpg.Connection[asyncpg.Record]", number: int) -> str:
    clock = SystemClock()
    account = await accounts.create(
        connection, clock, email=f"bench-{number}@example.com", plan_id=PLAN, currency=Currency.IDR
    )
    key = await keys.create_key(
        connection, clock, {1: PEPPER.encode()}, account_id=account.account_id, scopes=KeyScopes()
    )
    return key.text
