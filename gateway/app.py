"""The gateway as one ASGI application: joins the parts of the data plane, and only joins.

Requests for tokens go straight to ``serve_inference``; everything else is the framework's. The parts are made when
the process starts and closed, in the opposite order, when it stops.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from gateway.clock import SystemClock
from gateway.db.health import DatabaseHealth
from gateway.db.pool import BY_KEY, OPERATIONAL_ERRORS, DatabaseUnavailable, drop_idle, open_pool
from gateway.errors import InvalidValue, NusagateError
from gateway.http.inference import ENDPOINTS, serve_inference
from gateway.http.reading import Receive, Scope
from gateway.http.routes import ROUTES
from gateway.http.services import Services, input_bounds
from gateway.http.wire_errors import NotFound, as_known, render_error
from gateway.ids import request_label, uuid7
from gateway.keys.cache import KeyCache
from gateway.keys.listener import ChangeListener
from gateway.keys.service import KeyService, LastUsed
from gateway.ledger import store as ledger_store
from gateway.ledger.service import Ledger
from gateway.ledger.spool import Spool
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.proxy.downstream import Send
from gateway.proxy.exchange import Transport
from gateway.proxy.exchanges import Exchanges
from gateway.quota.redis_quota import open_quota
from gateway.refusals.service import Refusals
from gateway.runtime import metrics
from gateway.runtime.logging import configure_logging, describe, get_logger
from gateway.runtime.serve import spare_the_collector
from gateway.runtime.settings import Settings, load_settings
from gateway.runtime.unread import close_unread
from gateway.upstream.catalogue import load_catalogue
from gateway.upstream.client import UpstreamClient

log = get_logger("app")

LAST_USED_EVERY_S = 5
REFUSALS_EVERY_S = 5
REPLAY_EVERY_S = 0.5
METRICS_EVERY_S = 1
SERVER_ERROR = 500
APPLICATION = "nusagate-gateway"


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Make the parts, and close them so that every request that was admitted is settled."""
    catalogue = load_catalogue(settings.config_path, os.environ)
    limits = settings.limits
    clock = SystemClock()
    db = await open_pool(settings.database_url, limits, application=APPLICATION, planning=BY_KEY)
    cache = KeyCache(limits)
    client = UpstreamClient.create()
    health = DatabaseHealth(settings.database_url, limits)
    spool = Spool(settings.spool_dir, max_batch=limits.batch_size, max_queue=limits.queue_size)
    spool.probe()
    quota = await open_quota(db, limits, settings.redis_url)
    health.on_down.append(lambda: quota.fail_waiting(DatabaseUnavailable()))
    ledger = Ledger(db, limits, health=health, spool=spool)
    services = Services(
        settings=settings,
        clock=clock,
        db=db,
        catalogue=catalogue,
        bounds=input_bounds(catalogue),
        keys=KeyService(db, clock, settings.peppers, cache),
        last_used=LastUsed(keys_max=limits.key_cache_entries),
        refusals=Refusals(counts_max=limits.key_cache_entries),
        meter=Meter(db, quota, ledger, BookCache()),
        transport=Transport(client=client, limits=limits),
        exchanges=Exchanges(limits),
    )
    listener = ChangeListener(settings.database_url, limits, cache, application=f"{APPLICATION}-listener")
    tasks = [
        asyncio.create_task(health.run()),
        asyncio.create_task(listener.run()),
        asyncio.create_task(_every(REPLAY_EVERY_S, ledger.replay, at_once=health.on_up)),
        asyncio.create_task(_every(LAST_USED_EVERY_S, lambda: _mark_last_used(services))),
        asyncio.create_task(_every(REFUSALS_EVERY_S, lambda: services.refusals.flush(db))),
        asyncio.create_task(_every(limits.heartbeat_s, lambda: _beat(services), at_once=health.on_up)),
        asyncio.create_task(_every(None, lambda: drop_idle(db), at_once=health.on_down)),
        asyncio.create_task(_every(METRICS_EVERY_S, _publish_metrics)),
    ]
    try:
        yield services
    finally:
        await services.exchanges.shut_down()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await services.meter.close()
        with contextlib.suppress(*OPERATIONAL_ERRORS):
            await services.refusals.flush(db)
        metrics.publish()
        await client.close()
        await db.close()


async def _every(
    pause_s: float | None,
    work: Callable[[], Awaitable[object]],
    *,
    at_once: list[Callable[[], None]] | None = None,
) -> None:
    """Work again and again, with a pause between; and at once when something happens that ``at_once`` is told of.

    Without ``pause_s`` only then.
    """
    happened = asyncio.Event()
    if at_once is not None:
        at_once.append(happened.set)
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await happened.wait()
        happened.clear()
        try:
            await work()
        except Exception as error:  # what is missed now is done at the next turn
            log.warning("housekeeping failed", **describe(error))


async def _mark_last_used(services: Services) -> None:
    await services.last_used.flush(services.db, services.clock.now())


async def _publish_metrics() -> None:
    metrics.publish()


async def _beat(services: Services) -> None:
    beats = services.exchanges.heartbeats()
    if beats:
        await ledger_store.heartbeat(services.db, beats)


class GatewayApp:
    """The ASGI application; ``open_parts`` is how its parts are made."""

    def __init__(self, open_parts: Callable[[], contextlib.AbstractAsyncContextManager[Services]]) -> None:
        self._open_parts = open_parts
        self._services: Services | None = None
        self._framework = Litestar(
            ROUTES, openapi_config=None, exception_handlers={Exception: _answer_error}, debug=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of any kind."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
        elif (scope["method"], scope["path"]) in ENDPOINTS:
            assert self._services is not None
            await serve_inference(self._services, scope, receive, send)
        else:
            label = request_label(uuid7())
            scope.setdefault("state", {})["request_id"] = label
            await self._framework(scope, receive, _with_request_id(send, label))  # type: ignore[arg-type]

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with contextlib.AsyncExitStack() as stack:
                self._services = await stack.enter_async_context(self._open_parts())
                self._framework.state["services"] = self._services
                self._drain_on_signal(self._services)
                spare_the_collector()
                await send({"type": "lifespan.startup.complete"})
                await close_unread(self._services.settings.limits.slow_client_timeout_s)
                await receive()
        except NusagateError as error:
            log.error("start failed", code=error.code, detail=error.message)
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.shutdown.complete"})

    def _drain_on_signal(self, services: Services) -> None:
        """Begin to drain when the parent says so: the server itself would wait for open streams for ever."""
        loop = asyncio.get_running_loop()
        draining: list[asyncio.Task[None]] = []

        def drain() -> None:
            if not draining:
                draining.append(loop.create_task(services.exchanges.shut_down()))

        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(signal.SIGUSR1, drain)


def create_app() -> GatewayApp:
    """Make the application from the environment; what is wrong there is one sentence."""
    settings = load_settings(os.environ)
    configure_logging(json_lines=settings.json_logs)
    return GatewayApp(lambda: open_services(settings))


def _with_request_id(send: Send, label: str) -> Send:
    async def send_with_id(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", label.encode())]
        await send(message)

    return send_with_id


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer in the API's shape, whatever was raised."""
    known = _known(error)
    label = request.scope["state"]["request_id"]
    if known.code == NusagateError.code:
        log.error("request failed", request_id=label, **describe(error))
    status, headers, body = render_error(known, label, ())
    pairs = {name.decode(): value.decode() for name, value in headers if name != b"content-type"}
    return Response(body, status_code=status, headers=pairs, media_type="application/json")


def _known(error: Exception) -> NusagateError:
    if isinstance(error, NotFoundException | MethodNotAllowedException):
        return NotFound("There is nothing at this address and method; see /openapi.json for what there is.")
    if isinstance(error, HTTPException) and error.status_code < SERVER_ERROR:
        return InvalidValue(error.detail)
    return as_known(error)
