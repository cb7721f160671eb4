"""Plans: compared, chosen, changed, cancelled and kept; and the way back from Checkout."""

from litestar import Response, get, post
from litestar.params import FromPath

from admin.access.model import AccessError
from admin.portal.billing.overview import show
from admin.portal.billing.paying import NotSold, ask, keep_asked, return_urls, subscriptions
from admin.portal.billing.views import (
    METERED_RULE,
    RULES,
    CancelPage,
    PaidPage,
    PaidState,
    PlanPage,
    PlansPage,
    StepForm,
)
from admin.portal.offers import rates_offered
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pages import REFUSALS, STOP_POLLING, Problem, leave, page, problem_of, redirect, render
from admin.web.parts import PageRequest, Parts, account_in, parts_of, visitor_in
from billing.credit.topups import is_credited
from billing.subscriptions import store
from billing.subscriptions.model import FREE_PLAN, Subscription, current
from billing.subscriptions.offers import Offer, Step
from billing.subscriptions.service import PLAN, offers_to
from billing.subscriptions.store import Session
from gateway.accounts.model import Account
from gateway.clock import month_end, month_of
from gateway.plans import service as plans
from gateway.plans.model import Billing

CHANGES = frozenset(RULES)


class OfferChanged(AccessError):
    """What this costs has changed since the page was opened. Look at it once more."""

    code = "offer_changed"


class CheckoutUnknown(AccessError):
    """There is no such payment."""

    code = "checkout_not_found"


@get("/billing/plans", access=Access.PERSON)
async def plans_page(request: PageRequest) -> Response[str]:
    """Show the plans side by side, with what each would cost now and from the 1st on."""
    parts, account = parts_of(request), await account_in(request)
    view = PlansPage(
        offers=await offers_to(parts.db, parts.plan_clock, account),
        current=await plans.get_plan(parts.db, account.plan_id),
        currency=account.currency,
        next_month=month_end(month_of(parts.plan_clock.now())),
        rates=await rates_offered(parts, account.currency),
        can_pay=parts.till is not None,
    )
    return page(request, "billing/plans.html", view)


@get("/billing/plans/{plan_id:str}", access=Access.CONFIRMED, back="/billing/plans")
async def plan_page(request: PageRequest, plan_id: FromPath[str]) -> Response[str]:
    """Say what choosing a plan means, and ask whether to do it."""
    return await _plan(request, plan_id)


@post("/billing/plans/{plan_id:str}", access=Access.CONFIRMED, back="/billing/plans")
async def choose_plan(request: PageRequest, plan_id: FromPath[str]) -> Response[str]:
    """Go on to Checkout for a first plan, or change the plan."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, StepForm)
    account_id = visitor.inside.person.account_id
    try:
        offer = await _offer(request, plan_id)
        if form.step != offer.step.value:
            raise OfferChanged
        if offer.step is Step.BUY:
            address = await ask(
                request,
                lambda till: subscriptions(parts, till).start_checkout(
                    account_id, plan_id, return_urls(parts)
                ),
                is_change=False,
            )
            await keep_asked(request, "plan:checkout", after={"plan": plan_id})
            return leave(address)
        await ask(
            request,
            lambda till: subscriptions(parts, till).change_plan(account_id, plan_id),
            is_change=True,
        )
        await keep_asked(request, "plan:change", after={"plan": plan_id, "step": offer.step})
    except REFUSALS as error:
        return await _plan(request, plan_id, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(
        request, "/billing", notice="plan_later" if offer.step is Step.CHEAPER else "plan_changed"
    )


@get("/billing/cancel", access=Access.CONFIRMED, back="/billing")
async def cancel_page(request: PageRequest) -> Response[str]:
    """Say when the plan would end and what follows."""
    return await _cancel(request)


@post("/billing/cancel", access=Access.CONFIRMED, back="/billing")
async def cancel(request: PageRequest) -> Response[str]:
    """Let the plan end with the month."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    try:
        await ask(request, lambda till: subscriptions(parts, till).cancel(account_id), is_change=True)
        await keep_asked(request, "plan:cancel")
    except REFUSALS as error:
        return await _cancel(request, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/billing", notice="plan_cancelled")


@post("/billing/keep", access=Access.CONFIRMED, back="/billing")
async def keep(request: PageRequest) -> Response[str]:
    """Take a cancellation back."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    try:
        await ask(request, lambda till: subscriptions(parts, till).keep(account_id), is_change=True)
        await keep_asked(request, "plan:keep")
    except REFUSALS as error:
        return await show(request, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/billing", notice="plan_kept")


@get("/billing/paid", access=Access.PERSON)
async def paid_page(request: PageRequest) -> Response[str]:
    """Say whether what was paid for at Checkout is there."""
    return page(request, "billing/paid.html", await _paid(request))


@get("/billing/paid/state", access=Access.PERSON, back="/billing")
async def paid_state(request: PageRequest) -> Response[str]:
    """Say the same, for the page that waits."""
    view = await _paid(request)
    status = 200 if view.state is PaidState.WAITING else STOP_POLLING
    return render(request, "billing/arrival.html", view, status=status)


@get("/billing/left", access=Access.PERSON)
async def left_page(request: PageRequest) -> Response[str]:
    """Say that nothing was paid."""
    return page(request, "billing/left.html", None)


async def _offer(request: PageRequest, plan_id: str) -> Offer:
    parts = parts_of(request)
    found = await offers_to(parts.db, parts.plan_clock, await account_in(request))
    offer = next((offer for offer in found if offer.plan.plan_id == plan_id), None)
    if offer is None:
        raise NotSold
    return offer


async def _plan(
    request: PageRequest, plan_id: str, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, account, offer = parts_of(request), await account_in(request), await _offer(request, plan_id)
    if offer.step is Step.CANCEL:
        return redirect(request, "/billing/cancel")
    if offer.step not in CHANGES:
        return redirect(request, "/billing/plans")
    is_metered_buy = offer.step is Step.BUY and offer.plan.billing is Billing.METERED
    view = PlanPage(
        offer=offer,
        current=await plans.get_plan(parts.db, account.plan_id),
        currency=account.currency,
        rule=METERED_RULE if is_metered_buy else RULES[offer.step],
        next_month=month_end(month_of(parts.plan_clock.now())),
        can_pay=parts.till is not None,
        problem=problem,
    )
    return page(request, "billing/plan.html", view, status=status)


async def _cancel(
    request: PageRequest, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, account = parts_of(request), await account_in(request)
    subscription = await _subscription(parts, account)
    if subscription is None or subscription.cancel_at is not None:
        if problem is None:
            return redirect(request, "/billing")
        return await show(request, problem=problem, status=status)
    plan = await plans.get_plan(parts.db, account.plan_id)
    view = CancelPage(
        current=plan,
        free=await plans.get_plan(parts.db, FREE_PLAN),
        ends_at=subscription.period_end,
        is_metered=plan.billing is Billing.METERED,
        problem=problem,
    )
    return page(request, "billing/cancel.html", view, status=status)


async def _subscription(parts: Parts, account: Account) -> Subscription | None:
    return current(await store.subscriptions_of(parts.db, account.account_id))


async def _paid(request: PageRequest) -> PaidPage:
    parts, account = parts_of(request), await account_in(request)
    kept = await store.find_session(parts.db, request.query_params.get("session", ""))
    if kept is None or kept.account_id != account.account_id:
        raise CheckoutUnknown
    if kept.purpose == PLAN:
        subscription = await _subscription(parts, account)
        is_there = subscription is not None and subscription.plan_id == kept.plan_id
    else:
        is_there = await is_credited(parts.db, kept)
    return PaidPage(
        session_id=kept.session_id,
        state=_state(kept, is_there=is_there),
        plan=await plans.get_plan(parts.db, kept.plan_id) if kept.plan_id else None,
        amount_minor=kept.amount_minor,
        currency=kept.currency,
    )


def _state(kept: Session, *, is_there: bool) -> PaidState:
    if is_there:
        return PaidState.DONE
    return PaidState.CLOSED if kept.state == "expired" else PaidState.WAITING


ROUTES = [
    plans_page,
    plan_page,
    choose_plan,
    cancel_page,
    cancel,
    keep,
    paid_page,
    paid_state,
    left_page,
]
