"""The simulator as a process: one granian worker that ends by itself on SIGTERM or SIGINT."""

import os
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels

from gateway.upstream.simulator.app import SimulatorApp, create_app

JOURNAL_VARIABLE = "NUSAGATE_SIMULATOR_JOURNAL"
STOP_MAX_S = 3


def serve(host: str, port: int, journal: Path | None) -> None:
    """Serve until a signal; answers that are still on their way then have 3 s.

    Blocks, and has to run in the main thread. The worker learns the journal's path from the environment.
    """
    if journal is None:
        os.environ.pop(JOURNAL_VARIABLE, None)
    else:
        os.environ[JOURNAL_VARIABLE] = str(journal.absolute())
    Granian(
        f"{__name__}:worker_app",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        workers=1,
        websockets=False,
        factory=True,
        log_level=LogLevels.warning,
        workers_kill_timeout=STOP_MAX_S,
    ).serve()


def worker_app() -> SimulatorApp:
    """Make the application inside the worker."""
    journal = os.environ.get(JOURNAL_VARIABLE)
    return create_app(Path(journal) if journal else None)
