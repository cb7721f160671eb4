"""``nusagate dev``: the whole product on one machine, with no account anywhere.

It starts an embedded Postgres, migrates and seeds it, makes a demo account, and runs the simulator, the gateway and the
worker as children. Everything it keeps is in one folder, so that the data survives a restart.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import msgspec

from gateway.accounts import service as accounts
from gateway.accounts.model import EmailTaken
from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.clock import SystemClock
from gateway.db.migrate import migrate
from gateway.db.pool import Connection, open_connection
from gateway.errors import ConfigurationError, NusagateError
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.runtime.settings import Limits, parse_secrets
from gateway.units import Currency

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 45
POLL_S = 0.05
DEMO_EMAIL = "demo@nusagate.example"
DEMO_PLAN = "free"
PARENT_DEATH_SIGNAL = 1
CATALOGUE = """\
# Written by `nusagate dev` for its simulator; change it, or set NUSAGATE_CONFIG to use another.
[upstreams.simulator]
base_url = "http://127.0.0.1:{port}/v1"
dialect = "responses"

[models."nusantara-base"]
upstreams = ["simulator"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""


class DevFailed(NusagateError):
    """The development installation could not be started."""

    code = "dev_failed"


class DevFile(msgspec.Struct, frozen=True, kw_only=True):
    """``dev.json``: how to reach what is running."""

    gateway_url: str
    worker_url: str
    simulator_url: str
    database_url: str
    account_id: UUID
    api_key: str


class Ports(msgspec.Struct, frozen=True):
    """Where the processes listen, all on loopback."""

    gateway: int
    worker: int
    simulator: int


class Child:
    """One process of the product, its output in a file."""

    def __init__(self, name: str, arguments: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program with arguments made here
                [sys.executable, "-m", "admin.cli", *arguments],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no threads yet
            )

    @property
    def exited(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """The end of what the process wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """Let the process finish what it serves, and end it if it does not."""
        if self.exited:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_dev(folder: Path, ports: Ports) -> None:
    """Run everything until Ctrl-C or SIGTERM; ``DevFailed`` says in one sentence what is in the way."""
    # Whichever way the signal comes in the middle of starting, what was started is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started_s = time.monotonic()
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_only_one(folder))
        for port in (ports.gateway, ports.worker, ports.simulator):
            _check_port(port)
        environ = _environment(folder, ports)
        database_url = _start_postgres(stack, folder)
        environ["NUSAGATE_DATABASE_URL"] = database_url
        simulator = _start(stack, "simulator", _simulator_arguments(folder, ports), environ, folder)
        dev_file = asyncio.run(_prepare(folder, database_url, environ, ports))
        worker = _start(stack, "worker", ["worker", "--port", str(ports.worker)], environ, folder)
        gateway = _start(stack, "gateway", ["gateway", "--port", str(ports.gateway)], environ, folder)
        children = [gateway, worker, simulator]
        for child, url in zip(
            children, (dev_file.gateway_url, dev_file.worker_url, dev_file.simulator_url), strict=True
        ):
            _wait_until_ready(child, f"{url}/healthz")
        _write_private(folder / "dev.json", msgspec.json.format(msgspec.json.encode(dev_file)))
        _greet(dev_file, folder, time.monotonic() - started_s)
        _watch(children)
    print("Stopped; the data stays in", folder)  # noqa: T201 - this command speaks to a person


def _start_postgres(stack: contextlib.ExitStack, folder: Path) -> str:
    # Loaded here because only this command needs the server's wheel.
    from gateway.db.embedded import EmbeddedPostgres  # noqa: PLC0415

    print("Starting Postgres …", flush=True)  # noqa: T201
    postgres = EmbeddedPostgres(folder / "postgres")
    stack.callback(_undisturbed, postgres.close)
    return postgres.url


def _start(
    stack: contextlib.ExitStack, name: str, arguments: list[str], environ: Mapping[str, str], folder: Path
) -> Child:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    child = Child(name, arguments, environ, logs)
    stack.callback(_undisturbed, child.stop)
    return child


def _undisturbed(stop: Callable[[], None]) -> None:
    """Stop something without letting an impatient second Ctrl-C leave half of it running."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop()
    finally:
        signal.signal(signal.SIGINT, before)


async def _prepare(folder: Path, database_url: str, environ: Mapping[str, str], ports: Ports) -> DevFile:
    """Migrate, seed, and make the demo account and its key, or find them from before."""
    connection = await open_connection(database_url, Limits(), application="nusagate-dev")
    clock = SystemClock()
    try:
        await migrate(connection)
        async with connection.transaction():
            await apply_seed(connection, clock, load_seed(SEED_FILES))
        known = _read_dev_file(folder)
        if known is not None and await _account_exists(connection, known.account_id):
            account_id, api_key = known.account_id, known.api_key
        else:
            account_id, api_key = await _make_demo(connection, environ)
    finally:
        await connection.close()
    return DevFile(
        gateway_url=f"http://127.0.0.1:{ports.gateway}",
        worker_url=f"http://127.0.0.1:{ports.worker}",
        simulator_url=f"http://127.0.0.1:{ports.simulator}",
        database_url=database_url,
        account_id=account_id,
        api_key=api_key,
    )


async def _make_demo(connection: Connection, environ: Mapping[str, str]) -> tuple[UUID, str]:
    clock = SystemClock()
    peppers = parse_secrets("NUSAGATE_KEY_PEPPER", environ["NUSAGATE_KEY_PEPPER"])
    email = DEMO_EMAIL
    try:
        account = await accounts.create(
            connection, clock, email=email, plan_id=DEMO_PLAN, currency=Currency.IDR
        )
    except EmailTaken:
        # The file that knew its key is gone; the account of before keeps its data under its own address.
        email = f"demo-{secrets.token_hex(4)}@nusagate.example"
        account = await accounts.create(
            connection, clock, email=email, plan_id=DEMO_PLAN, currency=Currency.IDR
        )
    key = await keys.create_key(
        connection,
        clock,
        peppers,
        account_id=account.account_id,
        scopes=KeyScopes(name="demo"),
    )
    return account.account_id, key.text


async def _account_exists(connection: Connection, account_id: UUID) -> bool:
    try:
        await accounts.get(connection, account_id)
    except NusagateError:
        return False
    return True


def _environment(folder: Path, ports: Ports) -> dict[str, str]:
    """The children's environment: the user's own, with secrets that were made once and kept."""
    secrets_file = folder / "dev.env"
    if not secrets_file.exists():
        lines = [
            f"{name}=v1:{secrets.token_hex(32)}"
            for name in ("NUSAGATE_KEY_PEPPER", "NUSAGATE_SESSION_SECRET")
        ]
        _write_private(secrets_file, ("\n".join(lines) + "\n").encode())
    kept = dict(line.split("=", 1) for line in secrets_file.read_text().splitlines() if "=" in line)
    environ = {**os.environ, **kept}
    environ.setdefault("NUSAGATE_SPOOL_DIR", str(folder / "spool"))
    environ.setdefault("NUSAGATE_API_URL", f"http://127.0.0.1:{ports.gateway}")
    if "NUSAGATE_CONFIG" not in environ:
        own = Path("nusagate.toml").resolve()
        catalogue = folder / "nusagate.toml"
        if not own.exists():
            catalogue.write_text(CATALOGUE.format(port=ports.simulator))
        environ["NUSAGATE_CONFIG"] = str(own if own.exists() else catalogue)
    return environ


def _simulator_arguments(folder: Path, ports: Ports) -> list[str]:
    return ["simulator", "--port", str(ports.simulator), "--journal", str(folder / "simulator.jsonl")]


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevFailed(
                f"Another `nusagate dev` is running on {folder}; stop it or choose another --data."
            ) from error
        yield


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DevFailed(f"Port {port} is in use; choose another with --port.") from error


def _wait_until_ready(child: Child, url: str) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if child.exited:
            raise DevFailed(f"The {child.name} stopped: {child.last_words()} (see {child.log})")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own child on loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    raise DevFailed(f"The {child.name} did not answer within {READY_TIMEOUT_S} s; see {child.log}")


def _watch(children: list[Child]) -> None:
    """Wait until somebody stops us, or a process ends by itself."""
    while True:
        for child in children:
            if child.exited:
                raise DevFailed(f"The {child.name} stopped: {child.last_words()} (see {child.log})")
        time.sleep(0.5)


def _read_dev_file(folder: Path) -> DevFile | None:
    try:
        return msgspec.json.decode((folder / "dev.json").read_bytes(), type=DevFile)
    except (OSError, msgspec.DecodeError):
        return None


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


def _greet(dev_file: DevFile, folder: Path, took_s: float) -> None:
    body = '{"model": "nusantara-base", "input": "Selamat pagi! Apa kabar?"}'
    print(  # noqa: T201
        f"""
Nusagate is ready ({took_s:.1f} s).

  API          {dev_file.gateway_url}/v1
  Demo key     {dev_file.api_key}   (free plan: 10,000 tokens a month)
  Data, logs   {folder}

Try it:

  curl {dev_file.gateway_url}/v1/responses \\
    -H "Authorization: Bearer {dev_file.api_key}" \\
    -H "Content-Type: application/json" \\
    -d '{body}'

  .venv/bin/nusagate quota show --account {dev_file.account_id}

Ctrl-C stops everything; the data stays.
""",
        flush=True,
    )


def _die_with_parent() -> None:
    """Ask the kernel to stop a child whose parent was killed and could not stop it (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


def check_ports(gateway: int, worker: int, simulator: int) -> Ports:
    """Make the ports, which must differ."""
    if len({gateway, worker, simulator}) != len(("gateway", "worker", "simulator")):
        raise ConfigurationError("--port, --worker-port and --simulator-port must differ")
    return Ports(gateway, worker, simulator)
