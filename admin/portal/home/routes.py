"""The front page, and the choice of language and theme that every page carries, and of the zone."""

from litestar import Response, get, post

from admin.access import changing
from admin.access.model import Language
from admin.portal.home.views import FrontPage, Preferences
from admin.portal.offers import models_offered
from admin.portal.snippets import snippets
from admin.web.admission import Access
from admin.web.forms import read_form
from admin.web.pages import keep_cookie, page, redirect, safe_path
from admin.web.parts import PageRequest, parts_of, visitor_in
from admin.web.visitor import YEAR_S, CookieName, Theme, Zone
from gateway.plans import service as plans
from gateway.units import Currency

SHOWN_KEY = "nsk_live_…"


@get("/", access=Access.ANYBODY)
async def front_page(request: PageRequest) -> Response[str]:
    """Say what this is; somebody who is inside goes on to their usage."""
    if visitor_in(request).session is not None:
        return redirect(request, "/usage")
    parts = parts_of(request)
    models = await models_offered(parts, Currency.IDR)
    view = FrontPage(
        plans=await plans.list_plans(parts.db),
        snippets=snippets(parts.settings.base.api_url, SHOWN_KEY, models[0]),
    )
    return page(request, "home/front.html", view)


@post("/preferences", access=Access.ANYBODY, back="/")
async def set_preferences(request: PageRequest) -> Response[str]:
    """Keep the language, the theme or the zone that somebody chose, and go back to where they were."""
    form = await read_form(request, Preferences)
    session = visitor_in(request).session
    if form.language in set(Language):
        keep_cookie(request, CookieName.LANGUAGE, form.language, max_age_s=YEAR_S)
        if session is not None:
            parts = parts_of(request)
            await changing.set_language(parts.db, session.person, Language(form.language))
    if form.theme in set(Theme):
        keep_cookie(request, CookieName.THEME, form.theme, max_age_s=YEAR_S)
    if form.zone in set(Zone):
        keep_cookie(request, CookieName.ZONE, form.zone, max_age_s=YEAR_S)
    return redirect(request, safe_path(form.next, "/"))


ROUTES = [front_page, set_preferences]
