"""An installation of its own: a database, an environment, and the product's commands as child processes."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from tests.fakes.processes import ChildProcess, free_port

COMMAND = [str(Path(sys.executable).with_name("nusagate"))]
PEPPER = "v1:the pepper of this installation"
COMMAND_TIMEOUT_S = 60


class Installation:
    """Runs commands and servers with one set of settings; all output is in ``folder``."""

    def __init__(self, folder: Path, database_url: str, catalogue: str, **settings: str) -> None:
        self.database_url = database_url
        self._folder = folder
        config = folder / "nusagate.toml"
        config.write_text(catalogue)
        self._environ = {
            "NUSAGATE_DATABASE_URL": database_url,
            "NUSAGATE_CONFIG": str(config),
            "NUSAGATE_KEY_PEPPER": PEPPER,
            "NUSAGATE_SPOOL_DIR": str(folder / "spool"),
            **settings,
        }

    def command(self, *words: str, status: int = 0) -> str:
        """Run a command, which must end with this exit status, and return what it prints."""
        done = run_command(words, self._environ, self._folder)
        assert done.returncode == status, f"nusagate {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def answer(self, *words: str, status: int = 0) -> dict:
        """Run a command with ``--json`` and return its document."""
        return json.loads(self.command(*words, "--json", status=status))

    def entries(self) -> list[dict]:
        """The whole ledger, in the order of admission."""
        return [json.loads(line) for line in self.command("ledger", "export").splitlines()]

    def join(self, email: str, plan: str) -> "Customer":
        """Make an account with one key."""
        account = self.answer("account", "create", "--email", email, "--plan", plan)
        key = self.answer("key", "create", "--account", account["account_id"], "--name", "first")
        return Customer(account["account_id"], key["key"])

    @contextlib.contextmanager
    def serving(self, command: str, *, deadline_s: float = 30) -> Iterator["Served"]:
        """Run a server until the block ends; it is ready when the block begins."""
        port = free_port()
        process = ChildProcess(
            [*COMMAND, command, "--port", str(port)],
            output=self._folder / f"{command}-{port}.log",
            env=self._environ,
        )
        try:
            process.wait_for_http(port, "/healthz", deadline_s=deadline_s)
            yield Served(process, port)
        finally:
            process.stop()


class Customer(msgspec.Struct, frozen=True):
    """An account and its key."""

    account_id: str
    api_key: str


class Served(msgspec.Struct, frozen=True):
    """One server of the product."""

    process: ChildProcess
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def run_command(
    words: tuple[str, ...], environ: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` with these settings and no others of the product."""
    return subprocess.run(
        [*COMMAND, *words],
        env=clean_environment() | dict(environ),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """This process's variables without any setting of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NUSAGATE_")}
