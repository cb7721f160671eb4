"""Servers that the product stands on, as processes that a test may kill: Postgres with a standby, and Redis.

They are made from scratch in a folder and listen on a port of 127.0.0.1. The files of the Postgres wheel are enough.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess

from gateway.db.embedded import BIN
from tests.fakes.supervisor import Process, Supervisor, Unfit, descendants, free_port, is_running, wait_until

UNPRIVILEGED = "embedded_postgres"
COMMAND_S = 60
CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 120
shared_buffers = 64MB
wal_level = replica
max_wal_senders = 4
wal_keep_size = 64MB
hot_standby = on
max_wal_size = 256MB
log_min_messages = warning
"""


class PostgresServer:
    """One Postgres cluster and its process; ``follow`` makes a standby of it instead of an empty one."""

    def __init__(self, supervisor: Supervisor, name: str, *, follow: "PostgresServer | None" = None) -> None:
        self.port = free_port()
        self.name = name
        self._data = supervisor.folder / name
        self._user = _user()
        self._make(follow)
        self.process: Process = supervisor.add(
            name,
            [str(BIN / "postgres"), "-D", str(self._data), "-p", str(self.port), "-k", str(self._data)],
            user=self._user,
            ready=self._accepts,
        )

    def url(self, database: str = "nusagate", port: int | None = None) -> str:
        """The address of a database; ``port`` is that of a proxy in front."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start the server, or start it again after it was killed."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self.process.start()

    def kill(self) -> None:
        """Kill the postmaster alone, as the kernel would; its children notice and go."""
        below = descendants(self.process.pid)
        self.process.send(signal.SIGKILL)
        self.process.wait_for_end(10)
        wait_until(lambda: not any(map(is_running, below)), "the backends are gone", 20)

    def stop_immediately(self) -> None:
        """Stop without a checkpoint and without a word to the clients."""
        self.process.stop(number=signal.SIGQUIT, deadline_s=20)

    def promote(self) -> None:
        """Make a standby the primary, and return when it is."""
        self._run(["pg_ctl", "promote", "-w", "-D", str(self._data)])

    def set(self, setting: str) -> None:
        """Change one setting of a running server, such as ``synchronous_standby_names = '*'``."""
        self.sql(f"ALTER SYSTEM SET {setting}")
        self.sql("SELECT pg_reload_conf()")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement and return what it printed."""
        url = self.url(database)
        return self._run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, url])

    def _make(self, follow: "PostgresServer | None") -> None:
        self._data.mkdir()
        self._data.chmod(0o700)
        if self._user is not None:
            # The unprivileged user must be able to walk down to its data and to its programs.
            shutil.chown(self._data, self._user)
            for folder in self._data.parents:
                folder.chmod(folder.stat().st_mode | 0o111)
        if follow is None:
            options = ["--auth=trust", "--encoding=utf8", "-U", "postgres", "--no-sync"]
            self._run(["initdb", *options, "-D", str(self._data)])
            configuration = self._data / "postgresql.conf"
            configuration.write_text(configuration.read_text() + CONFIGURATION)
        else:
            copied = ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
            self._run(["pg_basebackup", *copied, "-D", str(self._data), "-d", follow.url("postgres")])

    def _accepts(self) -> bool:
        try:
            self.sql("SELECT 1")
        except Unfit:
            return False
        return True

    def _run(self, arguments: list[str]) -> str:
        done = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            user=self._user,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PGCONNECT_TIMEOUT": "2"},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            raise Unfit(f"{arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()


class RedisServer:
    """One Redis without persistence, as the product asks for it."""

    def __init__(self, supervisor: Supervisor, name: str = "redis") -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder = supervisor.folder / name
        folder.mkdir()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process: Process = supervisor.add(
            name,
            ["redis-server", *options, "--dir", str(folder)],
            ready=lambda: self.ask(b"PING") == b"+PONG",
        )

    def ask(self, *words: bytes) -> bytes:
        """Send one command and return the first line of its answer; empty when there is no answer in a second."""
        command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(command)
            return connection.recv(4096).split(b"\r\n")[0]
        return b""


def _user() -> str | None:
    """Postgres refuses to run as root; the wheel has a user for that case, which is made when it is missing."""
    if os.geteuid() != 0:
        return None
    if subprocess.run(["id", "-u", UNPRIVILEGED], capture_output=True, check=False).returncode != 0:
        subprocess.run(["useradd", "-s", "/bin/sh", UNPRIVILEGED], check=True, capture_output=True)
    return UNPRIVILEGED
