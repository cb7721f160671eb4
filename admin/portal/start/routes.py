"""Onboarding: make a key, paste a request, see it arrive."""

from uuid import UUID

from litestar import Response, get, post

from admin.portal.keys.making import make_key_of
from admin.portal.offers import models_offered
from admin.portal.playground.key import is_playgrounds
from admin.portal.snippets import snippets
from admin.portal.start.views import Listening, StartPage
from admin.reports import store as reports
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.i18n import mark
from admin.web.pages import REFUSALS, STOP_POLLING, Problem, page, problem_of, render
from admin.web.parts import PageRequest, Parts, parts_of, visitor_in
from gateway.accounts import service as accounts
from gateway.accounts.model import Account
from gateway.clock import month_of
from gateway.keys import service as keys
from gateway.keys.model import ApiKey, KeyScopes, KeyStatus, NewKey
from gateway.quota import service as quota

KEY_NAMES = mark("first key"), mark("another key")
KEY_PLACEHOLDER = "nsk_live_…"


@get("/start", access=Access.PERSON)
async def start_page(request: PageRequest) -> Response[str]:
    """Show the three steps, with the newest working key of the account."""
    return await _start(request, made=None)


@post("/start/key", access=Access.CONFIRMED, back="/start")
async def make_first_key(request: PageRequest) -> Response[str]:
    """Make a key and show it this once."""
    parts, visitor = parts_of(request), visitor_in(request)
    _, newest = await _account_and_key(request)
    name = visitor.translator.gettext(KEY_NAMES[newest is not None])
    try:
        made = await make_key_of(parts, visitor.inside.person, KeyScopes(name=name))
    except REFUSALS as error:
        return await _start(request, made=None, problem=problem_of(visitor, error), status=status_of(error))
    return await _start(request, made=made)


@get("/start/call", access=Access.PERSON, back="/start")
async def first_call(request: PageRequest) -> Response[str]:
    """Say whether the first call has arrived, for the page that is listening."""
    account, newest = await _account_and_key(request)
    listening = await _listening(parts_of(request), account, newest)
    status = 200 if listening.poll else STOP_POLLING
    return render(request, "start/listening.html", listening, status=status)


async def _start(
    request: PageRequest, *, made: NewKey | None, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts = parts_of(request)
    account, newest = await _account_and_key(request)
    models = await models_offered(parts, account.currency)
    shown = f"{newest.prefix}…{newest.last4}" if newest else None
    view = StartPage(
        key_id=newest.key_id if newest else None,
        key_shown=shown,
        key_text=made.text if made else None,
        snippets=snippets(
            parts.settings.base.api_url, made.text if made else shown or KEY_PLACEHOLDER, models[0]
        ),
        listening=await _listening(parts, account, newest),
        problem=problem,
    )
    return page(request, "start/start.html", view, status=status, secret=made is not None)


async def _account_and_key(request: PageRequest) -> tuple[Account, ApiKey | None]:
    parts = parts_of(request)
    account_id: UUID = visitor_in(request).inside.person.account_id
    now = parts.door.clock.now()
    working = [
        key
        for key in await keys.list_keys(parts.db, account_id)
        if key.status(now) is KeyStatus.ACTIVE and not is_playgrounds(key)
    ]
    return await accounts.get(parts.db, account_id), working[0] if working else None


async def _listening(parts: Parts, account: Account, key: ApiKey | None) -> Listening:
    calls = (
        await reports.latest_calls(
            parts.db, account.account_id, since=key.created_at, key_id=key.key_id, limit=1
        )
        if key
        else []
    )
    now = await quota.now(parts.db)
    month = month_of(now)
    counted = await quota.counters(parts.db, account.account_id, [account.account_id], [month])
    return Listening(
        key_id=key.key_id if key else None,
        call=calls[0] if calls else None,
        month_used=counted.get((account.account_id, month), (0, 0))[0],
        month_limit=await keys.month_limit(parts.db, account.account_id, now),
    )


ROUTES = [start_page, make_first_key, first_call]
