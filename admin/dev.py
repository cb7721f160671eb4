"""``nusagate dev``: the whole product on one machine, with no account anywhere.

It starts an embedded Postgres, migrates and seeds it, makes a demo account, and runs the simulator, the Stripe sandbox,
the gateway, the portal and the worker as children. Everything it keeps is in one folder, so that the data survives a
restart.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import msgspec

from admin import dev_stripe
from admin.opening import open_page
from admin.settings import MAIL_PAGE
from gateway.accounts import service as accounts
from gateway.accounts.model import EmailTaken
from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.cli.session import DEV_FOLDER
from gateway.clock import SystemClock
from gateway.db.migrate import migrate
from gateway.db.pool import Connection, open_connection
from gateway.errors import ConfigurationError, NusagateError
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.runtime.ports import check_port
from gateway.runtime.settings import Limits, parse_secrets
from gateway.units import Currency

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 45
POLL_S = 0.05
WATCH_EVERY_S = 0.5
DEMO_EMAIL = "demo@nusagate.example"
DEMO_PLAN = "free"
PARENT_DEATH_SIGNAL = 1
HOST = "127.0.0.1"
NUSAGATE = ("admin.cli",)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PORT_OPTIONS = {
    "gateway": "--port",
    "admin": "--admin-port",
    "worker": "--worker-port",
    "simulator": "--simulator-port",
    "sandbox": "--sandbox-port",
}
SECRETS = ("NUSAGATE_KEY_PEPPER", "NUSAGATE_SESSION_SECRET")
CATALOGUE = """\
# Written anew at every start of `nusagate dev`. To change it, copy it to where you start the command, or name
# your own in NUSAGATE_CONFIG.
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
    admin_url: str = ""
    worker_url: str
    simulator_url: str
    sandbox_url: str | None = None
    database_url: str
    account_id: UUID
    api_key: str


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where the processes listen, all on loopback."""

    gateway: int
    admin: int
    worker: int
    simulator: int
    sandbox: int


class Child:
    """One process of the product, its output in a file."""

    def __init__(self, name: str, arguments: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program with arguments made here
                [sys.executable, "-m", *arguments],
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
        """Let the process finish what it serves, and end it and its own children if it does not."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def run_dev(folder: Path, ports: Ports, *, opens: bool) -> None:
    """Run everything until Ctrl-C or SIGTERM; ``DevFailed`` says in one sentence what is in the way."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    folder = _made(folder)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        stack.enter_context(_only_one(folder))
        try:
            _run(stack, folder, ports, opens=opens)
        finally:
            # An impatient second Ctrl-C must not leave half of it running.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
    print("Stopped; the data stays in", folder)  # noqa: T201 - this command speaks to a person


def _run(stack: contextlib.ExitStack, folder: Path, ports: Ports, *, opens: bool) -> None:
    """Start everything in the order in which it is needed, and watch over it; ``stack`` stops it."""
    started_s = time.monotonic()
    for name, port in msgspec.structs.asdict(ports).items():
        check_port(HOST, port, option=PORT_OPTIONS[name])
    environ = _environment(folder, ports)
    database_url = environ["NUSAGATE_DATABASE_URL"] = _start_postgres(stack, folder)
    children = [
        _start(stack, "simulator", [*NUSAGATE, *_simulator_arguments(folder, ports)], environ, folder)
    ]
    if dev_stripe.is_wanted(os.environ):
        arguments = dev_stripe.sandbox_arguments(folder, ports.sandbox, ports.admin)
        sandbox = _start(stack, "sandbox", ["billing.sandbox", *arguments], environ, folder)
        children.append(sandbox)
    dev_file = asyncio.run(_prepare(folder, database_url, environ, ports))
    for name, port in (("worker", ports.worker), ("gateway", ports.gateway), ("admin", ports.admin)):
        children.append(_start(stack, name, [*NUSAGATE, name, "--port", str(port)], environ, folder))
    if dev_file.sandbox_url is not None:
        _wait_until_ready(sandbox, dev_file.sandbox_url)
        asyncio.run(_offer_plans(database_url, environ))
    for child in children:
        _wait_until_ready(child, getattr(dev_file, f"{child.name}_url"))
    _write_private(folder / "dev.json", msgspec.json.format(msgspec.json.encode(dev_file)))
    _greet(dev_file, folder, time.monotonic() - started_s)
    if opens:
        open_page(dev_file.admin_url, os.environ)
    _watch(children)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DevFailed(f"{folder} cannot be used: {error.strerror}; choose another --data.") from error
    return folder.resolve()


def _start_postgres(stack: contextlib.ExitStack, folder: Path) -> str:
    # Loaded here because only this command needs the server's wheel.
    from gateway.db.embedded import EmbeddedPostgres  # noqa: PLC0415

    print("Starting Postgres …", flush=True)  # noqa: T201
    with _signals_wait():
        try:
            postgres = EmbeddedPostgres(folder / "postgres")
        except Exception as error:
            raise DevFailed(f"Postgres did not start; see {folder / 'postgres' / 'log'}") from error
        stack.callback(postgres.close)
    return postgres.url


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals wait: what is half made could not be stopped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(
    stack: contextlib.ExitStack, name: str, arguments: list[str], environ: Mapping[str, str], folder: Path
) -> Child:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    child = Child(name, arguments, environ, logs)
    stack.callback(child.stop)
    return child


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
        admin_url=f"http://127.0.0.1:{ports.admin}",
        worker_url=f"http://127.0.0.1:{ports.worker}",
        simulator_url=f"http://127.0.0.1:{ports.simulator}",
        sandbox_url=f"http://127.0.0.1:{ports.sandbox}" if dev_stripe.is_wanted(os.environ) else None,
        database_url=database_url,
        account_id=account_id,
        api_key=api_key,
    )


async def _offer_plans(database_url: str, environ: Mapping[str, str]) -> None:
    connection = await open_connection(database_url, Limits(), application="nusagate-dev")
    try:
        await dev_stripe.offer_plans(connection, SystemClock(), environ)
    finally:
        await connection.close()


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
    settings = _own_settings(folder, ports)
    environ = {**os.environ, **settings}
    for name in (*settings, "NUSAGATE_DATABASE_URL"):
        environ.pop(f"{name}_FILE", None)
    environ.setdefault("NUSAGATE_SPOOL_DIR", str(folder / "spool"))
    environ.setdefault("NUSAGATE_API_URL", f"http://127.0.0.1:{ports.gateway}")
    environ.setdefault("NUSAGATE_PUBLIC_URL", f"http://127.0.0.1:{ports.admin}")
    environ.setdefault("NUSAGATE_SMTP_URL", MAIL_PAGE)
    if "NUSAGATE_CONFIG" not in environ:
        own = Path("nusagate.toml").resolve()
        catalogue = folder / "nusagate.toml"
        if not own.exists():
            catalogue.write_text(CATALOGUE.format(port=ports.simulator))
        environ["NUSAGATE_CONFIG"] = str(own if own.exists() else catalogue)
    return environ


def _own_settings(folder: Path, ports: Ports) -> dict[str, str]:
    """Make the settings that are this installation's own, and write them where commands beside it find them."""
    file = folder / "dev.env"
    lines = file.read_text().splitlines() if file.exists() else []
    kept = dict(line.split("=", 1) for line in lines if "=" in line)
    settings = {name: kept.get(name) or f"v1:{secrets.token_hex(32)}" for name in SECRETS}
    if dev_stripe.is_wanted(os.environ):
        settings |= dev_stripe.sandbox_settings(kept, folder, ports.sandbox)
    _write_private(file, "".join(f"{name}={value}\n" for name, value in settings.items()).encode())
    return settings


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


def _wait_until_ready(child: Child, url: str) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if child.exited:
            raise DevFailed(f"The {child.name} stopped: {child.last_words()} (see {child.log})")
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=1):  # noqa: S310 - our own child on loopback
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
        time.sleep(WATCH_EVERY_S)


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
    is_found = folder == Path(DEV_FOLDER).resolve()
    database = "" if is_found else f"NUSAGATE_DATABASE_URL={shlex.quote(dev_file.database_url)} "
    stripe = ""
    if dev_file.sandbox_url is not None:
        stripe = (
            f"  Stripe       {dev_file.sandbox_url}   (a sandbox: let months pass there, and cards fail)\n"
        )
    print(  # noqa: T201
        f"""
Nusagate is ready ({took_s:.1f} s).

  Portal       {dev_file.admin_url}   (sign up there; mail shows on {dev_file.admin_url}/dev/mail)
  API          {dev_file.gateway_url}/v1
{stripe}  Demo key     {dev_file.api_key}   (free plan: 10,000 tokens a month)
  Data, logs   {folder}

Try it:

  curl {dev_file.gateway_url}/v1/responses \\
    -H "Authorization: Bearer {dev_file.api_key}" \\
    -H "Content-Type: application/json" \\
    -d '{body}'

  {database}{shlex.quote(sys.argv[0])} quota show --account {dev_file.account_id}

Ctrl-C stops everything; the data stays.
""",
        flush=True,
    )


def _die_with_parent() -> None:
    """Ask the kernel to stop a child whose parent was killed and could not stop it (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


def check_ports(ports: Ports) -> Ports:
    """Return the ports, which must differ."""
    if len(set(msgspec.structs.astuple(ports))) != len(PORT_OPTIONS):
        raise ConfigurationError(f"{', '.join(PORT_OPTIONS.values())} must differ")
    return ports
