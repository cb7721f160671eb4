"""The portal and the console as one ASGI application: joins the page groups, and only joins."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath

from admin.access.door import Door
from admin.access.keyring import Keyring
from admin.access.passwords import Hasher
from admin.portal.groups import DEV_GROUPS, GROUPS, template_folders
from admin.settings import PortalSettings, load_portal_settings
from admin.web.admission import Access, admit
from admin.web.assets import Assets
from admin.web.csp import SOURCES, payment_pages, policy
from admin.web.errors import answer_error
from admin.web.parts import Parts, Till
from admin.web.relay import Relay
from admin.web.templates import Templates
from billing.settings import StripeSettings, load_stripe_settings
from billing.stripe.client import Stripe
from billing.stripe.clock import plan_clock
from billing.webhooks.http import endpoints
from gateway.clock import Clock, SystemClock
from gateway.db.pool import BY_RANGE, Pool, open_pool, pinger
from gateway.errors import NusagateError
from gateway.http.reading import Receive, Scope
from gateway.ids import request_label, uuid7
from gateway.proxy.downstream import Send
from gateway.runtime import metrics
from gateway.runtime.health import readiness
from gateway.runtime.logging import configure_logging, get_logger
from gateway.runtime.serve import spare_the_collector
from gateway.runtime.unread import close_unread

log = get_logger("portal")

APPLICATION = "nusagate-admin"
YEAR_S = 365 * 24 * 3600
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"x-frame-options", b"DENY"),
)
HTTPS_HEADERS = ((b"strict-transport-security", f"max-age={YEAR_S}".encode()),)

Lookup = Request[Any, Any, State]


@get("/static/{name:path}", access=Access.ASSET)
async def get_asset(request: Lookup, name: FromPath[str]) -> Response[bytes]:
    """Serve an asset from memory; its address has its digest, so it may be kept for a year."""
    parts: Parts = request.app.state["parts"]
    name = name.lstrip("/")
    asset = parts.assets.get(name)
    if asset is None:
        return Response(b"not found", status_code=404, media_type=MediaType.TEXT)
    response = Response(asset.content, status_code=200, media_type=asset.media_type)
    if asset.is_packed:
        response.headers["vary"] = "accept-encoding"
        if "gzip" in {one.strip() for one in request.headers.get("accept-encoding", "").split(",")}:
            response.content = await asyncio.to_thread(parts.assets.packed, name)
            response.headers["content-encoding"] = "gzip"
    current = request.query_params.get("v") == asset.digest[: len(request.query_params.get("v") or " ")]
    response.headers["cache-control"] = f"public, max-age={YEAR_S}, immutable" if current else "no-cache"
    return response


@get("/robots.txt", access=Access.ASSET, media_type=MediaType.TEXT)
async def robots() -> str:
    """Let search engines see the front page and the documentation, and nothing else."""
    return "User-agent: *\nAllow: /$\nAllow: /docs\nAllow: /llms.txt\nAllow: /static/\nDisallow: /\n"


@get("/healthz", access=Access.ASSET, media_type=MediaType.TEXT)
async def healthz() -> str:
    """Say that the process lives."""
    return "ok"


@get("/metrics", access=Access.ASSET)
async def get_metrics() -> Response[bytes]:
    """Expose all metrics in the Prometheus text format: webhooks that came in, and reads of Stripe."""
    return Response(metrics.exposition(), media_type=metrics.MEDIA_TYPE)


@get("/readyz", access=Access.ASSET)
async def readyz(request: Lookup) -> Response[dict[str, Any]]:
    """Say whether pages can be served now, and what stands in the way."""
    parts: Parts = request.app.state["parts"]
    state = await readiness(pinger(parts.db), draining=False)
    content = {"ready": state.ready, "checks": state.checks}
    return Response(content, status_code=200 if state.ready else 503, media_type=MediaType.JSON)


@contextlib.asynccontextmanager
async def open_parts(
    settings: PortalSettings, clock: Clock, stripe: StripeSettings | None
) -> AsyncIterator[Parts]:
    """Make the parts, and close them."""
    db = await open_pool(
        settings.base.database_url, settings.base.limits, application=APPLICATION, planning=BY_RANGE
    )
    till = open_till(stripe, clock) if stripe else None
    parts = join_parts(settings, clock, db, till)
    try:
        yield parts
    finally:
        await parts.relay.end()
        if till is not None:
            await till.stripe.close()
        await db.close()


def open_till(stripe: StripeSettings, clock: Clock) -> Till:
    """Make what takes money; its connection is the caller's to close."""
    return Till(stripe=Stripe(stripe), limits=stripe.limits, clock=plan_clock(clock, stripe))


def join_parts(settings: PortalSettings, clock: Clock, db: Any, till: Till | None = None) -> Parts:
    """Join the parts on an open pool."""
    assets = Assets()
    return Parts(
        settings=settings,
        till=till,
        door=Door(
            clock=clock,
            keyring=Keyring(settings.session_secrets),
            hasher=Hasher(),
            limits=settings.limits,
            public_url=settings.base.public_url,
            free_budget_tokens=settings.free_budget_tokens,
        ),
        db=db,
        assets=assets,
        templates=Templates(template_folders(), assets=assets, zone=settings.time_zone, clock=clock),
        relay=Relay(settings, clock),
    )


class AdminApp:
    """The ASGI application; ``open_parts`` is how its parts are made."""

    def __init__(
        self,
        settings: PortalSettings,
        open_parts: Callable[[], contextlib.AbstractAsyncContextManager[Parts]],
        stripe: StripeSettings | None = None,
    ) -> None:
        self._open_parts = open_parts
        self._webhooks = endpoints(self._pool, SystemClock(), stripe) if stripe else {}
        pages = payment_pages(stripe.api_base) if stripe else ()
        self._headers = (
            (b"content-security-policy", policy(SOURCES + pages).encode()),
            *SECURITY_HEADERS,
            *(HTTPS_HEADERS if settings.secure else ()),
        )
        groups = {**GROUPS, **(DEV_GROUPS if settings.mail_on_page else {})}
        self.framework = Litestar(
            [
                get_asset,
                robots,
                healthz,
                get_metrics,
                readyz,
                *(route for routes in groups.values() for route in routes),
            ],
            guards=[admit],
            exception_handlers={Exception: answer_error},
            openapi_config=None,
            request_max_body_size=settings.limits.max_form_bytes,
            debug=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of any kind."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
        elif (webhook := self._webhooks.get(scope["path"])) is not None:
            await webhook(scope, receive, send)
        else:
            state = scope.setdefault("state", {})
            state["request_id"] = request_label(uuid7())
            await self.framework(scope, receive, self._dressed(send, state))  # type: ignore[arg-type]

    def _pool(self) -> Pool:
        parts: Parts = self.framework.state["parts"]
        return parts.db

    def _dressed(self, send: Send, state: dict[str, Any]) -> Send:
        """Put the headers of every answer on, and the cookies that were kept while it was made."""

        async def dressed(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                cookies = [(b"set-cookie", text.encode()) for text in state.get("set_cookies", {}).values()]
                label = (b"x-request-id", state["request_id"].encode())
                message["headers"] = [*message["headers"], *self._headers, label, *cookies]
            await send(message)

        return dressed

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        # The parent says with it that it will stop soon; pages are short, so there is nothing to drain.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            async with contextlib.AsyncExitStack() as stack:
                parts = await stack.enter_async_context(self._open_parts())
                self.framework.state["parts"] = parts
                spare_the_collector()
                await send({"type": "lifespan.startup.complete"})
                await close_unread(parts.settings.base.limits.slow_client_timeout_s)
                await receive()
        except (NusagateError, OSError) as error:
            code = error.code if isinstance(error, NusagateError) else "database_unavailable"
            log.error("start failed", code=code)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def create_app() -> AdminApp:
    """Make the application from the environment; what is wrong there is one sentence."""
    settings = load_portal_settings(os.environ)
    configure_logging(json_lines=settings.base.json_logs)
    stripe = load_stripe_settings(os.environ)
    return AdminApp(settings, lambda: open_parts(settings, SystemClock(), stripe), stripe)
