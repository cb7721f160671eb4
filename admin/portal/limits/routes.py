"""The page of limits: a row for each, with what is used of it and what a request beyond it gets."""

import msgspec
from litestar import Response, get, post

from admin.access import trail
from admin.portal.amounts import FormRefused
from admin.portal.billing.overview import find_cap, find_credit
from admin.portal.limits.views import AlertsForm, LimitRow, LimitsPage
from admin.web.admission import Access
from admin.web.forms import read_form
from admin.web.i18n import mark
from admin.web.pages import page, redirect
from admin.web.parts import PageRequest, account_in, parts_of, visitor_in
from billing.caps import alerts
from billing.caps.model import THRESHOLDS
from billing.credit.store import is_subscribed
from gateway.accounts.model import Account, LimitName
from gateway.clock import Month, day_of, format_utc, month_end, month_of
from gateway.http.wire_errors import render_error
from gateway.ids import request_label, uuid7
from gateway.plans import service as plans
from gateway.quota import service as quota
from gateway.quota.model import InsufficientQuota, QuotaState, Standing

SAMPLE_BEYOND = 576
"""How many tokens more than are left the request of the sample asks for."""

TITLES = {
    LimitName.MONTHLY_TOKENS: (
        mark("Tokens a month"),
        mark("the 1st of every month, 00:00 UTC"),
    ),
    LimitName.DAILY_TOKENS: (mark("Tokens a day"), mark("every day, 00:00 UTC")),
    LimitName.REQUESTS_PER_MINUTE: (mark("Requests a minute"), mark("continuously")),
    LimitName.TOKENS_PER_MINUTE: (mark("Tokens a minute"), mark("continuously")),
    LimitName.CONCURRENCY: (mark("Requests at once"), mark("when one of them ends")),
}
CODES = {LimitName.MONTHLY_TOKENS: InsufficientQuota.code}
OTHER_CODE = "rate_limit_exceeded"


@get("/limits", access=Access.PERSON)
async def limits_page(request: PageRequest) -> Response[str]:
    """Show every limit that is in force for the account."""
    parts = parts_of(request)
    account = await account_in(request)
    now = await quota.now(parts.db)
    month, day = month_of(now), day_of(now)
    counted = await quota.counters(parts.db, account.account_id, [account.account_id], [month, day])
    used = {
        LimitName.MONTHLY_TOKENS: counted.get((account.account_id, month), (0, 0))[0],
        LimitName.DAILY_TOKENS: counted.get((account.account_id, day), (0, 0))[0],
    }
    view = LimitsPage(
        plan=await plans.get_plan(parts.db, account.plan_id),
        rows=[_row(account, name, used.get(name)) for name in LimitName],
        cap=await find_cap(parts, account.account_id),
        credit=None
        if await is_subscribed(parts.db, account.account_id)
        else await find_credit(parts, account.account_id),
        currency=account.currency,
        thresholds=THRESHOLDS[::-1],
        percents=await alerts.choice(parts.db, account.account_id),
        sample=_sample(account, used[LimitName.MONTHLY_TOKENS], month),
    )
    return page(request, "limits/limits.html", view)


@post("/limits/alerts", access=Access.PERSON, back="/limits")
async def choose_alerts(request: PageRequest) -> Response[str]:
    """Keep at which percents of a limit there is mail."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, AlertsForm)
    known = {str(percent): percent for percent in THRESHOLDS}
    if not set(form.percents) <= set(known):
        raise FormRefused("Mail is sent at 50, 80 and 100 percent.", param="percents")
    chosen = [known[percent] for percent in form.percents]
    person = visitor.inside.person
    async with parts.db.acquire() as connection, connection.transaction():
        before = await alerts.choice(connection, person.account_id)
        await alerts.choose(connection, parts.door.clock, person.account_id, chosen)
        await trail.keep(
            connection, parts.door.clock, person, "alert:choose", before=before, after=sorted(chosen)
        )
    return redirect(request, "/limits", notice="alerts_saved")


def _row(account: Account, name: LimitName, used: int | None) -> LimitRow:
    title, reset = TITLES[name]
    return LimitRow(
        name=name.value,
        title=title,
        limit=getattr(account.limits, name.value),
        used=used,
        own=name in account.overrides,
        code=CODES.get(name, OTHER_CODE),
        reset=reset,
    )


def _sample(account: Account, used: int, month: Month) -> str | None:
    """Write the body that a request beyond the monthly limit gets, as the API writes it, with the account's numbers."""
    limit = account.limits.monthly_tokens
    if limit is None:
        return None
    remaining, resets_at = max(0, limit - used), month_end(month)
    state = QuotaState(
        limit=limit,
        used=used,
        held=0,
        remaining=remaining,
        required=remaining + SAMPLE_BEYOND,
        resets_at=format_utc(resets_at),
        period=month,
        scope="month",
    )
    standing = Standing(
        month_limit=limit,
        month_used=used,
        month_held=0,
        month_resets_at=resets_at,
        requests_limit=account.limits.requests_per_minute,
        requests_remaining=account.limits.requests_per_minute,
        requests_reset_us=0,
        tokens_limit=account.limits.tokens_per_minute,
        tokens_remaining=account.limits.tokens_per_minute,
        tokens_reset_us=0,
    )
    _, _, body = render_error(InsufficientQuota(state, standing), request_label(uuid7()), ())
    return msgspec.json.format(body, indent=2).decode()


ROUTES = [limits_page, choose_alerts]
