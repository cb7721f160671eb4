"""Answers: a page, a part of a page, a redirect, a download; each with the headers that it needs."""

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
from litestar import MediaType, Response

from admin.access.model import AccessError
from admin.web.i18n import mark
from admin.web.notices import NOTICES
from admin.web.parts import PageRequest, parts_of, visitor_in
from admin.web.visitor import NOTICE_S, CookieName, Visitor, set_cookie
from gateway.errors import NusagateError, RequestError
from gateway.keys.model import KeyNotActive, TooManyKeys

OK = 200
SEE_OTHER = 303
STOP_POLLING = 286
"""The status by which htmx stops asking again; see https://htmx.org/attributes/hx-trigger/#polling."""
NO_STORE = "no-store"
PRIVATE = "private, no-cache"

REFUSALS = (AccessError, RequestError, KeyNotActive, TooManyKeys)
"""Errors that are said beside the form that caused them."""

SAID: Mapping[type[NusagateError], str] = {
    KeyNotActive: mark("This key is revoked, expired or replaced already."),
    TooManyKeys: mark("You have as many keys as an account may have. Revoke one that is not used."),
}
"""What is said to people where the API's own sentence is for programs."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a form, in the visitor's language; ``field`` is the input that it is about."""

    field: str | None
    text: str


def page(
    request: PageRequest, template: str, view: object, *, status: int = OK, secret: bool = False
) -> Response[str]:
    """Render a page; ``secret`` keeps it out of every cache, because it shows something once."""
    return render(request, template, view, status=status, cache=NO_STORE if secret else PRIVATE)


def render(
    request: PageRequest, template: str, view: object, *, status: int = OK, cache: str = NO_STORE
) -> Response[str]:
    """Render a template for the visitor of a request."""
    visitor = visitor_in(request)
    context = {
        "view": view,
        "visitor": visitor,
        "notice": NOTICES.get(visitor.notice or ""),
        "dev": parts_of(request).settings.mail_on_page,
    }
    text = parts_of(request).templates.render(visitor.language, template, context)
    response = Response(text, status_code=status, media_type=MediaType.HTML)
    response.headers["cache-control"] = cache
    response.headers["content-language"] = visitor.language.value
    if visitor.notice is not None:
        clear_cookie(request, CookieName.NOTICE)
    return response


def redirect(request: PageRequest, path: str, *, notice: str | None = None) -> Response[str]:
    """Send the visitor on to a page of ours, which then says what was done."""
    if notice is not None:
        assert notice in NOTICES
        keep_cookie(request, CookieName.NOTICE, notice, max_age_s=NOTICE_S)
    return leave(path)


def leave(address: str) -> Response[str]:
    """Send the visitor on to an address: a path of ours, or a page of Stripe's, whose address Stripe gave."""
    response = Response("", status_code=SEE_OTHER, media_type=MediaType.TEXT)
    response.headers["location"] = address
    response.headers["cache-control"] = NO_STORE
    return response


def problem_of(visitor: Visitor, error: NusagateError) -> Problem:
    """Say an error in the visitor's language, as far as the catalogue knows it."""
    say = visitor.translator.gettext
    if isinstance(error, AccessError):
        text = say(error.template)
        return Problem(error.param, text % error.values if error.values else text)
    return Problem(error.param, say(SAID.get(type(error), error.message)))


def keep_cookie(request: PageRequest, name: CookieName, value: str, *, max_age_s: int | None) -> None:
    """Have the answer set a cookie."""
    secure = parts_of(request).settings.secure
    request.scope["state"].setdefault("set_cookies", {})[name] = set_cookie(
        name, value, secure=secure, max_age_s=max_age_s
    )


def clear_cookie(request: PageRequest, name: CookieName) -> None:
    """Have the answer remove a cookie."""
    keep_cookie(request, name, "", max_age_s=0)


def safe_path(path: str | None, default: str) -> str:
    """Return where to go on: a path of our own, never another host, whatever somebody put into a link."""
    if (
        not path
        or not path.startswith("/")
        or path.startswith("//")
        or "\\" in path
        or not path.isascii()
        or not path.isprintable()
    ):
        return default
    return path


def with_query(path: str, **values: str) -> str:
    """Write a path with a query."""
    return f"{path}?{urlencode(values)}"
