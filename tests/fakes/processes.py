"""Child processes of tests: started on a free port, waited for by asking, and always stopped."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.02
STOP_S = 10


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChildProcess:
    """A process of our own; its output goes to a file, so that it can never block on a full pipe."""

    def __init__(self, arguments: list[str], *, output: Path, env: dict[str, str] | None = None) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )

    @classmethod
    def python(cls, code: str, *, output: Path, env: dict[str, str] | None = None) -> "ChildProcess":
        """Start this interpreter with a piece of code."""
        return cls([sys.executable, "-c", code], output=output, env=env)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything the process has printed so far."""
        return self._output.read_text(errors="replace")

    def wait_for_port(self, port: int, *, deadline_s: float = 15) -> None:
        """Return when something accepts connections on the port."""
        self._poll(lambda: _accepts(port), f"port {port}", deadline_s)

    def wait_for_http(self, port: int, path: str = "/healthz", *, deadline_s: float = 15) -> None:
        """Return when a GET of the path is answered with 200."""
        self._poll(lambda: _is_healthy(port, path), f"{path} on port {port}", deadline_s)

    def wait(self, *, deadline_s: float = STOP_S) -> int:
        """Return the exit status, negative for a signal; ``TimeoutExpired`` if it does not end."""
        return self._process.wait(deadline_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process and no other."""
        self._process.send_signal(number)

    def stop(self, *, deadline_s: float = STOP_S) -> int:
        """Ask the process to end, insist after the deadline, and return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(deadline_s)
            self._process.kill()
        return self._process.wait()

    def _poll(self, is_ready, what: str, deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not is_ready():
            assert self._process.poll() is None, f"the process ended before {what} was there:\n{self.output}"
            assert time.monotonic() < deadline, f"{what} was not there in {deadline_s} s:\n{self.output}"
            time.sleep(POLL_S)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _is_healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


class SimulatorProcess:
    """The model simulator as a real process, and the journal in which it says what it served."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._journal = folder / "simulator.jsonl"
        code = (
            "from pathlib import Path; from gateway.upstream.simulator.serve import serve; "
            f"serve('127.0.0.1', {self.port}, Path({str(self._journal)!r}))"
        )
        self.process = ChildProcess.python(code, output=folder / "simulator.log")

    def journal(self) -> list[dict]:
        """Every line that is in the journal now."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def line_of(self, request_id: str, *, deadline_s: float = 10) -> dict:
        """The one line of a request, as soon as it is there."""
        deadline = time.monotonic() + deadline_s
        while not (lines := [line for line in self.journal() if line["request_id"] == request_id]):
            assert time.monotonic() < deadline, f"the simulator has not journaled {request_id}"
            time.sleep(POLL_S)
        assert len(lines) == 1, lines
        return lines[0]


@contextlib.contextmanager
def running_simulator(folder: Path) -> Iterator[SimulatorProcess]:
    """Run a simulator that keeps its journal and its output in ``folder``."""
    simulator = SimulatorProcess(folder)
    try:
        simulator.process.wait_for_http(simulator.port)
        yield simulator
    finally:
        simulator.process.stop()
