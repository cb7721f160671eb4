"""The sandbox as an ASGI application: Stripe's API, three small pages, and the control endpoints."""

import contextlib
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from billing.sandbox import overview, pages
from billing.sandbox.answers import Answer, Send, of_json, put_on_wire
from billing.sandbox.api import answer_api
from billing.sandbox.control import Control
from billing.sandbox.destinations import LOOPBACK
from billing.sandbox.routing import Request
from billing.sandbox.sender import Sender
from billing.sandbox.world import World

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Scope = MutableMapping[str, Any]
MAX_BODY_BYTES = 1024 * 1024
HEALTH_PATH = "/healthz"


class Application:
    """Answers requests about one world."""

    def __init__(self, world: World, sender: Sender) -> None:
        self._world = world
        self._control = Control(world, sender)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await put_on_wire(await self._answer(scope, receive), send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        request = await _read(scope, receive)
        if request is None:
            return of_json(
                {"error": {"type": "invalid_request_error", "message": "The body is too large."}}, 413
            )
        if not _is_local(request):
            return of_json(
                {"error": {"type": "invalid_request_error", "message": "Only for this machine."}}, 403
            )
        if request.path.startswith("/_sandbox/"):
            return await self._control.answer(request)
        if request.path in {HEALTH_PATH, overview.PATH} or request.path.startswith(pages.PREFIXES):
            return self._show(request)
        return await answer_api(self._world, request)

    def _show(self, request: Request) -> Answer:
        """Show a page to a person, or its health to whoever started it."""
        if request.path == HEALTH_PATH:
            return of_json({"ok": True})
        if request.path == overview.PATH:
            return overview.answer_overview(self._world, request)
        return pages.answer_page(self._world, request)


def _is_local(request: Request) -> bool:
    """Tell whether nobody else is asking: a page on the internet must not drive the sandbox.

    It could point a name of its own at 127.0.0.1, which ``Host`` shows, or post a form to it, which ``Origin`` shows.
    """
    origin = request.headers.get("origin")
    is_own_page = origin is None or urlsplit(origin).hostname in LOOPBACK
    return is_own_page and _host(request) in LOOPBACK


def _host(request: Request) -> str:
    name = request.headers.get("host", "")
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


async def _read(scope: Scope, receive: Receive) -> Request | None:
    """Read a whole request; ``None`` if its body is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            return None
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("ascii", "replace"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=bytes(body),
        request_id=f"req_{secrets.token_hex(7)}",
    )


async def _live(receive: Receive, send: Send) -> None:
    with contextlib.suppress(EOFError):
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
