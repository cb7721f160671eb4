"""The billing page: everything about an account's money, made from our own tables; Stripe is asked for nothing."""

import asyncio
from uuid import UUID

from litestar import Response, get, post

from admin.portal.billing.paying import ask, subscriptions
from admin.portal.billing.views import BillingPage, months_shown, next_of
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.pages import REFUSALS, Problem, leave, page, problem_of
from admin.web.parts import PageRequest, Parts, account_in, parts_of, visitor_in
from billing.caps import service as caps
from billing.caps.model import CapView, NoCap
from billing.credit import service as credit
from billing.credit.model import NoCredit
from billing.customers import store as customers
from billing.invoices import store as invoices
from billing.invoices.statement import Statement
from billing.invoices.statements import statement_of
from billing.subscriptions import store
from billing.subscriptions.model import current
from billing.subscriptions.service import offers_to
from gateway.clock import Month, month_of, month_start
from gateway.plans import service as plans

INVOICES_SHOWN = 24
MONTHS_SHOWN = 24


@get("/billing", access=Access.PERSON)
async def billing_page(request: PageRequest) -> Response[str]:
    """Show the plan, what comes next, this month's charges, credit, cap, invoices and statements."""
    return await show(request)


@post("/billing/portal", access=Access.CONFIRMED, back="/billing")
async def to_stripe(request: PageRequest) -> Response[str]:
    """Go on to Stripe's page for cards and invoices."""
    parts, visitor = parts_of(request), visitor_in(request)
    return_url = f"{parts.settings.base.public_url}/billing"
    try:
        address = await ask(
            request,
            lambda till: subscriptions(parts, till).portal_url(visitor.inside.person.account_id, return_url),
            is_change=False,
        )
    except REFUSALS as error:
        return await show(request, problem=problem_of(visitor, error), status=status_of(error))
    return leave(address)


async def show(request: PageRequest, *, problem: Problem | None = None, status: int = 200) -> Response[str]:
    """Show the billing page, with what went wrong on it."""
    parts, visitor = parts_of(request), visitor_in(request)
    account = await account_in(request)
    known = {plan.plan_id: plan for plan in await plans.list_plans(parts.db)}
    offers = {offer.plan.plan_id: offer for offer in await offers_to(parts.db, parts.plan_clock, account)}
    subscription = current(await store.subscriptions_of(parts.db, account.account_id))
    now = parts.door.clock.now()
    months = months_shown(await invoices.months_of(parts.db, account.account_id, MONTHS_SHOWN), now)
    view = BillingPage(
        account=account,
        plan=known[account.plan_id],
        offer=offers.get(account.plan_id),
        next=next_of(
            account=account,
            plans=known,
            offers=offers,
            subscription=subscription,
            standing=visitor.standing,
            now=parts.plan_clock.now(),
        ),
        statement=await _charges(parts, account.account_id, month_of(now)),
        period=month_of(now),
        month=month_start(month_of(now)),
        credit=await find_credit(parts, account.account_id),
        cap=await find_cap(parts, account.account_id),
        invoices=await invoices.list_invoices(parts.db, account_id=account.account_id, limit=INVOICES_SHOWN),
        months=[month_start(month) for month in months],
        has_customer=await customers.find(parts.db, account.account_id) is not None,
        can_pay=parts.till is not None,
        can_keep=subscription is not None and subscription.cancel_at is not None,
        can_cancel=subscription is not None and subscription.cancel_at is None,
        problem=problem,
    )
    return page(request, "billing/billing.html", view, status=status)


async def _charges(parts: Parts, account_id: UUID, period: Month) -> Statement | None:
    """Make this month's statement, from every request of it; a page does not wait for millions of them."""
    try:
        async with asyncio.timeout(parts.settings.limits.charges_timeout_s):
            return await statement_of(parts.db, account_id, period)
    except TimeoutError:
        return None


async def find_cap(parts: Parts, account_id: UUID) -> CapView | None:
    """Return the cap of an account, if it has one."""
    try:
        return await caps.show(parts.db, parts.door.clock, account_id)
    except NoCap:
        return None


async def find_credit(parts: Parts, account_id: UUID) -> str | None:
    """Return what an account has left of its credit, an exact decimal; ``None`` if it never had any."""
    try:
        return (await credit.show(parts.db, parts.door.clock, account_id)).balance
    except NoCredit:
        return None


ROUTES = [billing_page, to_stripe]
