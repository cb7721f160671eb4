"""The worker: one process for the background jobs of all rooms, with health and metrics and nothing else."""

import asyncio
import contextlib
import os
from typing import Any

from admin.jobs import admin_jobs
from billing.account_jobs import spending_jobs
from billing.jobs import StripeWork
from billing.settings import StripeSettings, load_stripe_settings
from gateway.clock import SystemClock
from gateway.db.pool import AdvisoryLease, Pool, open_pool, pinger
from gateway.errors import NusagateError
from gateway.http.reading import Receive, Scope
from gateway.jobs import gateway_jobs
from gateway.proxy.downstream import Send
from gateway.runtime import metrics
from gateway.runtime.health import readiness
from gateway.runtime.jobs import run_jobs
from gateway.runtime.logging import configure_logging, get_logger
from gateway.runtime.settings import Settings, load_settings

log = get_logger("worker")

APPLICATION = "nusagate-worker"


class WorkerApp:
    """The ASGI application; the jobs run for as long as it lives."""

    def __init__(self, settings: Settings, stripe: StripeSettings | None) -> None:
        self._settings = settings
        self._stripe = stripe
        self._db: Pool | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve health and metrics, and run the jobs in between."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/metrics":
            await _reply(send, 200, metrics.MEDIA_TYPE, metrics.exposition())
        elif scope["path"] == "/healthz":
            await _reply(send, 200, "text/plain", b"ok")
        elif scope["path"] == "/readyz":
            assert self._db is not None
            state = await readiness(pinger(self._db), draining=False)
            await _reply(
                send, 200 if state.ready else 503, "text/plain", b"ok" if state.ready else b"not ready"
            )
        else:
            await _reply(send, 404, "text/plain", b"not found")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._db = await open_pool(
                self._settings.database_url, self._settings.limits, application=APPLICATION
            )
        except (OSError, NusagateError) as error:
            await send({"type": "lifespan.startup.failed", "message": f"Postgres cannot be reached: {error}"})
            return
        jobs = [
            *gateway_jobs(self._settings.limits),
            *spending_jobs(SystemClock(), self._stripe),
            *admin_jobs(self._settings),
        ]
        billing = StripeWork(self._db, SystemClock(), self._stripe) if self._stripe else None
        if billing is not None:
            jobs += billing.jobs()
        lease = AdvisoryLease(self._settings.database_url, self._settings.limits)
        running = asyncio.create_task(run_jobs(jobs, self._db, lease))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await lease.close()
        if billing is not None:
            await billing.close()
        await self._db.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_worker() -> WorkerApp:
    """Make the worker from the environment."""
    settings = load_settings(os.environ)
    configure_logging(json_lines=settings.json_logs)
    return WorkerApp(settings, load_stripe_settings(os.environ))


async def _reply(send: Send, status: int, content_type: str, body: bytes) -> None:
    headers: list[Any] = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
