"""The sandbox as a real process, and the levers of its control endpoints."""

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.fakes.processes import ChildProcess, free_port

NOON = 1_794_312_000
"""2026-11-10 12:00 UTC, where the clock stands at the start of every test."""
HOUR_S = 3_600
DAY_S = 86_400
DECEMBER = 1_796_083_200
"""2026-12-01 00:00 UTC."""


class SandboxProcess:
    """A child process that serves one sandbox."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "billing.sandbox", "--port", str(self.port), *arguments]
        self.process = ChildProcess(command, output=folder / "sandbox.log")
        self.process.wait_for_port(self.port)

    def get(self, path: str) -> Any:
        """Ask a control endpoint."""
        status, _, body = self.send("GET", f"/_sandbox/{path}")
        assert status == http.HTTPStatus.OK, body
        return json.loads(body)

    def post(self, path: str, **body: Any) -> Any:
        """Tell a control endpoint."""
        status, _, answer = self.send("POST", f"/_sandbox/{path}", json.dumps(body))
        assert status == http.HTTPStatus.OK, answer
        return json.loads(answer)

    def reset(self, now: int = NOON) -> None:
        """Forget everything and stop the clock."""
        self.post("reset", now=now)

    def advance(self, seconds: int) -> None:
        """Move the stopped clock ahead, and let happen what is due by then."""
        self.post("clock", advance_s=seconds)

    def move_to(self, moment: int) -> None:
        """Move the stopped clock to a moment in Unix seconds."""
        self.post("clock", move_to=moment)

    def faults(self, *rules: dict[str, Any]) -> None:
        """Put these faults in force."""
        self.post("faults", rules=rules)

    def sum_of(self, customer: str, event_name: str) -> str | None:
        """Return the exact sum that the sandbox counted for a customer."""
        return self.get("state")["sums"].get(customer, {}).get(event_name)

    def submit(self, url: str, **form: str) -> tuple[int, str]:
        """Submit a form of one of the pages; return the status and where it leads (or the page)."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, location, body = self.send("POST", url.removeprefix(self.url), urlencode(form), headers)
        return status, location or body

    def send(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str | None, str]:
        """Send one request past the SDK; return status, ``Location`` and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("location"), answer.read().decode()


@contextlib.contextmanager
def running_sandbox(folder: Path, *arguments: str) -> Iterator[SandboxProcess]:
    """Run a sandbox that logs into a folder."""
    sandbox = SandboxProcess(folder, *arguments)
    try:
        yield sandbox
    finally:
        sandbox.process.stop()
