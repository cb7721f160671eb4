"""Real Redis servers of a test's own: child processes on loopback, that tests may kill, freeze, empty and bring back."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.processes import ChildProcess, free_port

REDIS_SERVER = shutil.which("redis-server")
MISSING = "redis-server is not installed; `make test` installs it"


class RedisProcess:
    """One Redis, started with the same folder and port however often it dies."""

    def __init__(self, folder: Path, *options: str) -> None:
        assert REDIS_SERVER, MISSING
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.dump = folder / "dump.rdb"
        self._folder = folder
        self._options = options
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the server and wait until it listens."""
        arguments = [
            str(REDIS_SERVER), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self._folder), *self._options,
        ]  # fmt: skip
        self._process = ChildProcess(arguments, output=self._folder / "redis.log")
        self._process.wait_for_port(self.port)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Let the server hang with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """Run a command on the server."""
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    def stop(self) -> None:
        """End the server if it runs, frozen or not."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)
            self._process.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@pytest.fixture
def new_redis(tmp_path) -> Iterator[Callable[..., RedisProcess]]:
    """Starts a Redis with options of its own; all are stopped when the test ends."""
    started: list[RedisProcess] = []

    def start(*options: str) -> RedisProcess:
        folder = tmp_path / f"redis-{len(started)}"
        folder.mkdir()
        server = RedisProcess(folder, *options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[RedisProcess]:
    """A Redis for all tests that do it no harm."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server) -> str:
    """The address of that Redis, emptied."""
    redis_server.ask("FLUSHALL")
    return redis_server.url
