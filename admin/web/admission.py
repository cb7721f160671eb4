"""Who may see what: decided on the matched route, before anything of it runs, and refused where nothing is said.

Every route says with ``access=`` whom it lets through. A route that says nothing lets nobody through.
"""

import asyncio
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from admin.access import sessions
from admin.access.door import Caller, network_of
from admin.access.keyring import new_token
from admin.access.model import ConfirmationNeeded, ForgedRequest, LoginNeeded, Stage
from admin.web.forms import TOKEN_FIELD, form_values
from admin.web.parts import PageRequest, Parts, parts_of
from admin.web.visitor import (
    YEAR_S,
    CookieName,
    Visitor,
    language_of,
    read_cookies,
    set_cookie,
    theme_of,
    zone_of,
)
from billing.subscriptions.store import find_entitlement
from gateway.errors import InvalidValue, NusagateError
from gateway.http.reading import RequestHeaders, client_address

HEADER_BYTES_MAX = 32 * 2**10
SAFE_METHODS = frozenset({"GET", "HEAD"})


class Access(StrEnum):
    """Whom a route lets through."""

    ASSET = "asset"
    """Anybody, without looking at who it is: assets and health."""
    ANYBODY = "anybody"
    PERSON = "person"
    """Somebody who is logged in."""
    CONFIRMED = "confirmed"
    """Somebody who is logged in and has proved it within the last minutes: keys, money, the account itself."""


class Unlisted(NusagateError):
    """This route does not say who may use it."""

    code = "not_found"


async def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Find out who sent a request and whether the route lets them through.

    ``LoginNeeded``, ``ConfirmationNeeded``, ``ForgedRequest``, or ``Unlisted`` for a route without ``access`` and for an
    address that no page has.
    """
    access = handler.opt.get("access")
    if not isinstance(access, Access):
        raise Unlisted
    if not connection.scope["path"].isprintable():
        # The name of nothing that we have; Postgres cannot even be asked for some of these.
        raise Unlisted
    if access is Access.ASSET:
        return
    request: PageRequest = connection  # type: ignore[assignment]
    parts = parts_of(request)
    visitor = await recognise(parts, request, _path(request, handler))
    request.scope["state"]["visitor"] = visitor
    if request.method not in SAFE_METHODS:
        await _check_origin(parts, request, visitor)
    if access is Access.ANYBODY:
        return
    if visitor.session is None:
        raise LoginNeeded
    visitor.standing = await find_entitlement(parts.db, visitor.session.person.account_id)
    if access is Access.CONFIRMED and not sessions.is_confirmed(parts.door, visitor.session):
        raise ConfirmationNeeded


async def recognise(parts: Parts, request: PageRequest, path: str) -> Visitor:
    """Find out who sent a request for a page, and give a new browser the token that its forms are bound to."""
    secure = parts.settings.secure
    headers = RequestHeaders(request.scope, max_bytes=HEADER_BYTES_MAX)  # type: ignore[arg-type]
    cookies = read_cookies(headers.get(b"cookie"), secure=secure)
    token = cookies.get(CookieName.SESSION)
    session = await sessions.find_session(parts.door, parts.db, token) if token else None
    browser_token = cookies.get(CookieName.BROWSER) or new_token()
    if CookieName.BROWSER not in cookies:
        request.scope["state"].setdefault("set_cookies", {})[CookieName.BROWSER] = set_cookie(
            CookieName.BROWSER, browser_token, secure=secure, max_age_s=YEAR_S
        )
    address = client_address(request.scope, headers, parts.settings.base.trusted_proxies)  # type: ignore[arg-type]
    binding = token if session is not None and token else browser_token
    is_open = session is not None and session.stage is Stage.OPEN
    return Visitor(
        language=language_of(cookies, session if is_open else None, headers.get(b"accept-language")),
        theme=theme_of(cookies),
        zone=zone_of(cookies),
        path=path,
        caller=Caller(
            network=network_of(address), agent=headers.get(b"user-agent") or "", browser_token=browser_token
        ),
        binding=binding,
        form_token=parts.door.keyring.form_token(binding),
        session=session if is_open else None,
        pending=None if is_open else session,
        notice=cookies.get(CookieName.NOTICE),
        cookies=cookies,
    )


async def _check_origin(parts: Parts, request: PageRequest, visitor: Visitor) -> None:
    """See that a form was sent from a page of ours, in three ways that fail independently of each other."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise ForgedRequest
    origin = request.headers.get("origin")
    if origin is not None and origin != origin_of(parts.settings.base.public_url):
        raise ForgedRequest
    try:
        async with asyncio.timeout(parts.settings.limits.form_timeout_s):
            values = await form_values(request)
    except TimeoutError:
        raise InvalidValue("The form did not arrive in time.") from None
    tokens = values.get(TOKEN_FIELD, [])
    if len(tokens) != 1 or not parts.door.keyring.is_form_token(tokens[0], visitor.binding):
        raise ForgedRequest


def origin_of(url: str) -> str:
    """Return the origin of an address as browsers send it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _path(request: PageRequest, handler: BaseRouteHandler) -> str:
    """Return the page that a visitor is on: an address that takes a form may not be one, so its route names one."""
    if request.method not in SAFE_METHODS:
        return str(handler.opt.get("back", "/"))
    query = request.scope["query_string"].decode("latin-1")
    return f"{request.scope['path']}?{query}" if query else str(request.scope["path"])
