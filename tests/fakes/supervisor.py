"""The processes that a crash test starts, kills, freezes and starts again; none of them outlives the test.

Only processes that were started here are ever signalled, by their ids. A watchdog holds a list of them and ends what
is left when the test itself is killed.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

POLL_S = 0.02
START_S = 30
STOP_S = 45
GONE_S = 10

WATCHDOG = """
import os, signal, sys
def born(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
known = [line.split() for line in sys.stdin]
for pid, moment in reversed(known):
    if born(pid) == moment:
        os.killpg(int(pid), signal.SIGCONT)
        os.killpg(int(pid), signal.SIGKILL)
"""
"""Reads "pid birth" lines until its parent is gone, then kills those that are still the same processes.

Each of them leads a session of its own, so what it has started goes with it.
"""


class Unfit(Exception):
    """A process did not do in time what the test needs; nothing can be said about the product."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Return when something has become true; ``Unfit`` naming it when it has not in time."""
    deadline = time.monotonic() + deadline_s
    while not is_so():
        if time.monotonic() > deadline:
            raise Unfit(f"{what}: not in {deadline_s} s")
        time.sleep(POLL_S)


def descendants(pid: int) -> list[int]:
    """The ids of all processes below one, children before grandchildren."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                below = [int(child) for child in (thread / "children").read_text().split()]
                found += below
                waiting += below
    return found


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status_of(port: int, path: str) -> int | None:
    """Ask a process on this machine for one page; ``None`` if it does not answer within a second."""
    try:
        return int(page_of(port, path).split()[1])
    except (IndexError, ValueError):
        return None


def page_of(port: int, path: str) -> bytes:
    """Ask a process on this machine for one page, head and all; empty if it does not answer within a second."""
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65_536), b""))
    except OSError:
        return b""


class Process:
    """One program of ours; it can be started again with the same arguments after it was stopped or killed."""

    def __init__(
        self,
        supervisor: "Supervisor",
        name: str,
        arguments: list[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.log = supervisor.folder / f"{name}.log"
        self.env = dict(env or {})
        self.cwd: Path | None = None
        """Where it runs; a Python program finds the product of this folder first."""
        self._arguments = arguments
        self._supervisor = supervisor
        self._user = user
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def family(self) -> list[int]:
        """The process and all its descendants."""
        return [self.pid, *descendants(self.pid)] if self.is_alive else []

    def start(self, *, env: Mapping[str, str] | None = None, wrapped_in: list[str] | None = None) -> float:
        """Start the process and wait until it is of use; return the seconds that took.

        ``env`` is added to its environment for this one life, ``wrapped_in`` is a program that runs it.
        """
        assert not self.is_alive, f"{self.name} runs already"
        began = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*(wrapped_in or ()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.env, **self._path(), **(env or {})},
                cwd=self.cwd,
                user=self._user,
                start_new_session=True,
            )
        self._supervisor.watch(self._process.pid)
        if self._ready is not None:
            wait_until(self._is_ready, f"{self.name} is ready ({self.last_words()})", START_S)
        return time.monotonic() - began

    def last_words(self) -> str:
        """The last line that the process wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it said nothing"

    def send(self, number: signal.Signals, pid: int | None = None) -> None:
        """Send a signal to the process, or to one of its descendants."""
        assert pid is None or pid in descendants(self.pid), f"{pid} is no child of {self.name}"
        os.kill(self.pid if pid is None else pid, number)

    def kill(self) -> None:
        """Kill the process and everything below it at once, and wait until they are gone."""
        family = self.family
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(GONE_S)
        wait_until(lambda: not any(map(is_running, family)), f"{self.name} is gone", GONE_S)

    def freeze(self) -> None:
        """Stop the process and everything below it where they stand."""
        for pid in self.family:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        for pid in reversed(self.family):
            os.kill(pid, signal.SIGCONT)

    def stop(self, *, number: signal.Signals = signal.SIGTERM, deadline_s: float = STOP_S) -> int:
        """Ask the process to end and return its exit status, negative for a signal; insist after the deadline."""
        if self._process is None:
            return 0
        if self.is_alive:
            self.thaw()
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(deadline_s)
            self.kill()
        return self._process.wait()

    def wait_for_end(self, deadline_s: float) -> int:
        """Wait until the process ends by itself; ``Unfit`` if it does not."""
        assert self._process is not None
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired as error:
            raise Unfit(f"{self.name} did not end in {deadline_s} s") from error

    def wait_until_ready(self, deadline_s: float = START_S) -> None:
        """Wait until the process serves (again)."""
        wait_until(self._is_ready, f"{self.name} is ready", deadline_s)

    def _path(self) -> dict[str, str]:
        return {} if self.cwd is None else {"PYTHONPATH": str(self.cwd)}

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise Unfit(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")
        return self._ready is None or self._ready()


class Supervisor:
    """Starts processes and stops every one of them when the block ends, the last one first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._processes: list[Process] = []
        self._watchdog: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-c", WATCHDOG], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(self, *_error: object) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(Unfit, ProcessLookupError):
                process.kill()
        if self._watchdog is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.communicate()

    def add(self, name: str, arguments: list[str], **options: object) -> Process:
        """Make a process that is not started yet; see ``Process``."""
        process = Process(self, name, arguments, **options)  # type: ignore[arg-type]
        self._processes.append(process)
        return process

    def watch(self, pid: int) -> None:
        """Tell the watchdog of a process."""
        assert self._watchdog is not None
        assert self._watchdog.stdin is not None
        birth = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        self._watchdog.stdin.write(f"{pid} {birth}\n")
        self._watchdog.stdin.flush()
