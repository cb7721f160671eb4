"""Other gateways to measure beside ours: how each is installed, apart from the project, and how it is started.

They are never a dependency. Each has an environment of its own below ``.bench``, which git ignores, made by the
ordinary installer of its language with its version pinned, and with everything it needs as of one day.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.bench.clients import Target
from tests.bench.scenarios import ANY_KEY
from tests.bench.stand import CHAT_MODEL, MODEL, STREAM_MODEL, BenchFailed, Stand, pinned
from tests.fakes.processes import ChildProcess, free_port

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".bench"
UV = ROOT / ".venv-uv" / "bin" / "uv"
AS_OF = "2026-11-24"
INSTALL_TIMEOUT_S = 600
START_TIMEOUT_S = 90

LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "http://127.0.0.1:{fixed}/v1", api_key: none}}
  - model_name: {chat_model}
    litellm_params: {{model: "openai/{chat_model}", api_base: "http://127.0.0.1:{fixed}/v1", api_key: none}}
  - model_name: {stream_model}
    litellm_params: {{model: "openai/{stream_model}", api_base: "http://127.0.0.1:{streams}/v1", api_key: none}}
litellm_settings:
  telemetry: false
"""
LITELLM_ENVIRON = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
}
"""What its own guide to production says, and nothing that would fetch from or report to the outside."""

LOOPBACK_ONLY = """\
// The gateway has no option for the address that it listens on; a benchmark has no business on any other.
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, { port, host: "127.0.0.1" }, rest.find((one) => typeof one === "function"));
};
"""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway that is running: where it takes requests, the process that serves them, and the first of all its own."""

    name: str
    version: str
    pid: int
    root: int
    chat: Target
    responses: Target
    streams: Target


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway of somebody else; ``install`` and ``start`` raise ``BenchFailed`` with one line that says why not."""

    name: str
    package: str
    version: str
    overrides: tuple[tuple[str, str], ...] = ()
    install: Callable[["Peer"], None]
    start: Callable[["Peer", Stand], tuple[ChildProcess, Subject]]

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return CACHE / self.name.lower()

    @property
    def stamp(self) -> str:
        """What an installation must say of itself to be used again."""
        return f"{self.package} {self.version} {self.overrides} as of {AS_OF}, {sys.version}\n"


def make_ready(peer: Peer) -> None:
    """Install a peer, unless exactly this is installed already."""
    stamp = peer.folder / "installed"
    if stamp.is_file() and stamp.read_text() == peer.stamp:
        return
    shutil.rmtree(peer.folder, ignore_errors=True)
    peer.folder.mkdir(parents=True)
    peer.install(peer)
    stamp.write_text(peer.stamp)


def install_from_pypi(peer: Peer) -> None:
    """Make an environment with the project's own interpreter and installer, and nothing of the project in it."""
    environ = {"UV_PYTHON_DOWNLOADS": "never"}
    place = peer.folder / "venv"
    _run(peer, [str(UV), "venv", "--quiet", "--python", sys.executable, str(place)], environ)
    wanted = [f"{peer.package}=={peer.version}", "--exclude-newer", f"{AS_OF}T00:00:00Z"]
    python = ["--python", str(place / "bin" / "python"), "--compile-bytecode"]
    _run(peer, [str(UV), "pip", "install", "--quiet", *python, *wanted], environ)


def install_from_npm(peer: Peer) -> None:
    """Install with npm, without running what packages would run at installation."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise BenchFailed("it needs node and npm, which are not on this machine.")
    wanted = {"dependencies": {peer.package: peer.version}, "overrides": dict(peer.overrides)}
    (peer.folder / "package.json").write_bytes(msgspec.json.encode(wanted))
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    place = ["--prefix", str(peer.folder), "--before", AS_OF]
    _run(peer, ["npm", "install", *quiet, *place], {})


def start_litellm(peer: Peer, stand: Stand) -> tuple[ChildProcess, Subject]:
    """Start its proxy without a database: one worker, which compares each key with the one that it knows."""
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    config = stand.folder / "litellm.yaml"
    models = {"model": MODEL, "chat_model": CHAT_MODEL, "stream_model": STREAM_MODEL}
    config.write_text(LITELLM_CONFIG.format(**models, fixed=stand.ports.fixed, streams=stand.ports.streams))
    arguments = [str(peer.folder / "venv" / "bin" / "litellm"), "--config", str(config)]
    listen = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    process = _start(
        peer, stand, [*arguments, *listen], environ={**LITELLM_ENVIRON, "LITELLM_MASTER_KEY": key}
    )
    _wait(peer, process, port, "/health/liveliness")
    chat = Target(port, "/v1/chat/completions", key)
    subject = Subject(
        name=peer.name,
        version=peer.version,
        pid=process.pid,
        root=process.pid,
        chat=chat,
        responses=Target(port, "/v1/responses", key),
        streams=chat,
    )
    return process, subject


def start_portkey(peer: Peer, stand: Stand) -> tuple[ChildProcess, Subject]:
    """Start its gateway, which checks no key; each request names its upstream in two headers."""
    port = free_port()
    loopback_only = stand.folder / "loopback-only.cjs"
    loopback_only.write_text(LOOPBACK_ONLY)
    script = peer.folder / "node_modules" / peer.package / "build" / "start-server.js"
    arguments = ["node", "--require", str(loopback_only), str(script), "--headless", f"--port={port}"]
    process = _start(peer, stand, arguments, environ={"NODE_ENV": "production"})
    _wait(peer, process, port, "/")

    def target(path: str, upstream: int) -> Target:
        host = f"http://127.0.0.1:{upstream}/v1"
        return Target(
            port, path, ANY_KEY, (("x-portkey-provider", "openai"), ("x-portkey-custom-host", host))
        )

    subject = Subject(
        name=peer.name,
        version=peer.version,
        pid=process.pid,
        root=process.pid,
        chat=target("/v1/chat/completions", stand.ports.fixed),
        responses=target("/v1/responses", stand.ports.fixed),
        streams=target("/v1/chat/completions", stand.ports.streams),
    )
    return process, subject


PEERS = (
    Peer(
        name="Portkey",
        package="@portkey-ai/gateway",
        version="1.15.2",
        # The version in its own lock file. With the newest that it allows, 1.19, it answers every stream with 500.
        overrides=(("@hono/node-server", "1.13.5"),),
        install=install_from_npm,
        start=start_portkey,
    ),
    Peer(
        name="LiteLLM",
        package="litellm[proxy]",
        version="1.108.7",
        install=install_from_pypi,
        start=start_litellm,
    ),
)


def _start(peer: Peer, stand: Stand, arguments: list[str], *, environ: dict[str, str]) -> ChildProcess:
    subject = pinned(frozenset({stand.cores.subject}))
    return ChildProcess([*subject, *arguments], output=stand.folder / f"{peer.name.lower()}.log", env=environ)


def _wait(peer: Peer, process: ChildProcess, port: int, path: str) -> None:
    try:
        process.wait_for_http(port, path, deadline_s=START_TIMEOUT_S)
    except AssertionError as error:
        process.stop()
        raise BenchFailed(f"it did not start; {_last_line(str(error))}") from error


def _run(peer: Peer, arguments: list[str], environ: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, **environ},
            cwd=peer.folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchFailed(f"it could not be installed; {error}") from error
    if done.returncode != 0:
        said = _last_line(done.stderr or done.stdout)
        raise BenchFailed(f"it could not be installed; {said}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
