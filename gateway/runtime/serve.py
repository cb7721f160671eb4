"""Serving an ASGI application with granian: workers, limits on slow clients, and a drain that ends.

Granian stops listening at SIGTERM and waits for open connections without a limit of its own. So the parent first
tells every worker to drain (SIGUSR1); a worker then ends what is still open after its shutdown limit.
"""

import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from gateway.runtime.respawn import Respawning

BACKLOG = 4096
CONNECTIONS_PER_WORKER = 16_384
"""More than the requests that a worker serves at once, so that one too many gets an answer; the server's own default
is its backlog, and beyond it connections are simply not accepted."""

HEADER_READ_TIMEOUT_MS = 30_000
CONNECTION_BUFFER_BYTES = 64 * 1024
SETTLE_MAX_S = 30
"""How long a worker may take, after its shutdown limit, to settle what it ended then; after that it is killed."""
ALLOCATIONS_BETWEEN_COLLECTIONS = 20_000
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
OUR_METRICS = "nusagate-metrics-"
SMALL_PAGES = ("MIMALLOC_ALLOW_THP", "0")
"""Keeps the allocator of the upstream client from asking the kernel for pages of 2 MiB: thousands of open streams, a few
KiB here and there, would hold half as much again. It reads this once, when a worker loads it."""


class DrainingServer(MPServer):
    """Granian's server, which says that it is stopping before it stops, and replaces workers as ``respawn`` says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._respawning = Respawning()

    def _respawn_workers(
        self, workers: list[int], spawn_target: Any, target_loader: Any, delay: float = 0
    ) -> None:
        """Replace workers; granian itself gives up at the second that dies within seconds."""
        dead = [self.wrks[index] for index in workers if not self.wrks[index].inner.is_alive()]
        pauses = [self._respawning.died(time.monotonic() - worker.birth) for worker in dead]
        if None not in pauses:
            self.main_loop_interrupt.wait(max((pause for pause in pauses if pause), default=0))
        super()._respawn_workers(workers, spawn_target, target_loader, delay)
        if None not in pauses:
            self.respawned_wrks.clear()

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """Tell the workers to drain, then stop as granian does."""
        for worker in self.wrks:
            if worker.inner.pid is not None and worker.inner.is_alive():
                os.kill(worker.inner.pid, signal.SIGUSR1)
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]


def serve(target: str, *, host: str, port: int, workers: int, shutdown_timeout_s: int) -> None:
    """Serve an application factory, ``package.module:function``, until SIGTERM or SIGINT.

    ``shutdown_timeout_s`` is the limit that its workers keep themselves; no worker is killed before it.
    """
    _share_metrics(workers)
    os.environ.setdefault(*SMALL_PAGES)
    DrainingServer(
        target,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_READ_TIMEOUT_MS, max_buffer_size=CONNECTION_BUFFER_BYTES
        ),
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_PER_WORKER,
        log_level=LogLevels.error,
        workers_kill_timeout=shutdown_timeout_s + SETTLE_MAX_S,
        respawn_failed_workers=True,
        respawn_interval=0.1,
    ).serve()
    _forget_metrics()


def _share_metrics(workers: int) -> None:
    """Let several workers sum their metrics through files.

    The client library looks for the folder when it is imported, which happened long ago in this process, so the
    process begins once more with the folder in its environment; its pid stays.
    """
    folder = os.environ.get(METRICS_FOLDER)
    if workers > 1 and folder is None:
        os.environ[METRICS_FOLDER] = tempfile.mkdtemp(prefix=OUR_METRICS)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the very same command
    for stale in Path(folder or os.devnull).glob("*.db"):
        stale.unlink(missing_ok=True)


def _forget_metrics() -> None:
    """Remove the folder of the workers' metrics where it was made here."""
    folder = os.environ.get(METRICS_FOLDER)
    if folder is not None and Path(folder).name.startswith(OUR_METRICS):
        shutil.rmtree(folder, ignore_errors=True)


def spare_the_collector() -> None:
    """Keep the garbage collector from walking what was made at start, and let it look less often.

    A metered request leaves no cycles behind, so at Python's default of 700 allocations it would find nothing, at a tenth
    of the processor's time; and every tenth large page of the portal waited 80 ms for it. Call it in a worker, once everything that lives as long as the process is there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
