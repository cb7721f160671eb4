"""What a visitor sees when something does not work: a page in their language that says what to do next."""

from typing import Any

import msgspec
from litestar import MediaType, Response
from litestar.exceptions import HTTPException

from admin.access.door import Caller
from admin.access.keyring import new_token
from admin.access.model import ConfirmationNeeded, LoginNeeded
from admin.web.i18n import mark
from admin.web.pages import redirect, render, with_query
from admin.web.parts import PageRequest, parts_of
from admin.web.visitor import CookieName, Visitor, language_of, read_cookies, theme_of, zone_of
from gateway.db.pool import is_operational
from gateway.errors import NusagateError
from gateway.runtime.logging import describe, get_logger

log = get_logger("portal")

NOT_FOUND = 404
SERVER_ERROR = 500
UNAVAILABLE = 503

STATUSES = {
    "account_not_found": 404,
    "card_declined": 402,
    "checkout_not_found": 404,
    "invoice_not_found": 404,
    "not_sold": 404,
    "offer_changed": 409,
    "paying_away": 503,
    "paying_not_set_up": 503,
    "paying_refused": 502,
    "paying_unclear": 504,
    "forged_request": 403,
    "key_not_active": 409,
    "key_not_found": 404,
    "link_refused": 410,
    "plan_running": 409,
    "login_refused": 403,
    "not_found": 404,
    "request_too_large": 413,
    "second_factor_state": 409,
    "sign_ups_paused": 503,
    "too_busy": 503,
    "too_many_keys": 409,
    "too_many_sign_ups": 429,
    "too_soon": 429,
}
"""The statuses of errors that have one of their own; other refusals are 422, other faults 500."""


class ErrorView(msgspec.Struct, frozen=True):
    """What an error page says."""

    status: int
    title: str
    text: str
    request_id: str


TEXTS = {
    403: (mark("That did not work"), mark("This form was not sent from its own page, or it is too old. Open the page again and repeat it there.")),
    404: (mark("There is nothing here"), mark("The address may be old, or it belongs to somebody else.")),
    405: (mark("There is nothing here"), mark("The address may be old, or it belongs to somebody else.")),
    413: (mark("That was too much"), mark("What was sent is larger than any of our forms.")),
    422: (mark("That did not work"), mark("Something that was sent cannot be right. Go back and try again.")),
    429: (mark("Please wait a moment"), mark("That was more than is usual. Try again in a minute.")),
    500: (mark("Something went wrong here"), mark("It is our fault, and it was noted. Try again in a moment.")),
    503: (mark("We cannot reach our database"), mark("It should be back soon. Nothing that you did is lost.")),
}  # fmt: skip


def status_of(error: NusagateError) -> int:
    """Return the status that an error is answered with."""
    if error.code in STATUSES:
        return STATUSES[error.code]
    return SERVER_ERROR if error.code == NusagateError.code else 422


def answer_error(request: PageRequest, error: Exception) -> Response[str]:
    """Answer whatever was raised."""
    if isinstance(error, LoginNeeded):
        return _go_to(request, "/login")
    if isinstance(error, ConfirmationNeeded):
        return _go_to(request, "/confirm")
    status = _status(error)
    label = request.scope["state"]["request_id"]
    if status >= SERVER_ERROR:
        log.error("page failed", request_id=label, status=status, **describe(error))
    title, text = TEXTS.get(status, TEXTS[422 if status < SERVER_ERROR else SERVER_ERROR])
    visitor = request.scope["state"].setdefault("visitor", _stranger(request))
    say = visitor.translator.gettext
    view = ErrorView(status=status, title=say(title), text=say(text), request_id=label)
    try:
        return render(request, "web/error.html", view, status=status)
    except Exception as second:  # the page of an error must not be a reason for another one
        log.error("error page failed", request_id=label, **describe(second))
        return Response(f"{view.title}. {label}", status_code=status, media_type=MediaType.TEXT)


def _status(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, NusagateError):
        return status_of(error)
    return UNAVAILABLE if is_operational(error) else SERVER_ERROR


def _go_to(request: PageRequest, path: str) -> Response[str]:
    """Send somebody to prove who they are and back again; a form goes back to the page that it stands on."""
    visitor: Visitor = request.scope["state"]["visitor"]
    handler: Any = request.scope["route_handler"]
    response = redirect(request, with_query(path, next=visitor.path))
    if request.headers.get("hx-request") == "true":
        # htmx would put the login form into the middle of the page.
        response.status_code = 204
        response.headers["hx-redirect"] = with_query(path, next=handler.opt.get("back", "/"))
    return response


def _stranger(request: PageRequest) -> Visitor:
    """Describe a visitor whom admission never saw, because no route matched."""
    parts = parts_of(request)
    cookies = read_cookies(request.headers.get("cookie"), secure=parts.settings.secure)
    token = cookies.get(CookieName.BROWSER) or new_token()
    return Visitor(
        language=language_of(cookies, None, request.headers.get("accept-language")),
        theme=theme_of(cookies),
        zone=zone_of(cookies),
        path="/",
        caller=Caller(network="", agent="", browser_token=token),
        binding=token,
        form_token=parts.door.keyring.form_token(token),
        cookies=cookies,
    )
