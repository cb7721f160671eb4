"""The steps that several ways in share."""

from litestar import Response

from admin.portal.entry.views import NextPage
from admin.web.errors import status_of
from admin.web.pages import keep_cookie, page, problem_of
from admin.web.parts import PageRequest, parts_of, visitor_in
from admin.web.visitor import CookieName
from gateway.errors import NusagateError

INSIDE = "/usage"
SECONDS_PER_HOUR = 3_600


def keep_session(request: PageRequest, token: str) -> None:
    """Give the browser its new session."""
    hours = parts_of(request).settings.limits.session_hours
    keep_cookie(request, CookieName.SESSION, token, max_age_s=hours * SECONDS_PER_HOUR)


def refused_link(request: PageRequest, error: NusagateError) -> Response[str]:
    """Say that a link of a mail cannot be used any more, and what to do."""
    view = NextPage(next="", problem=problem_of(visitor_in(request), error))
    return page(request, "entry/link.html", view, status=status_of(error))


def paused(request: PageRequest, error: NusagateError) -> Response[str]:
    """Say that the budget of the free plan is given away, and that links which were mailed stay good."""
    view = NextPage(next="", problem=problem_of(visitor_in(request), error))
    return page(request, "entry/paused.html", view, status=status_of(error))
