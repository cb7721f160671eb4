"""What bounds the spending of an account that pays by use: a cap for the month, and credit paid in advance."""

from litestar import Response, get, post

from admin.access import trail
from admin.access.model import Language
from admin.portal.amounts import FormRefused, example_of, micro_of, tokens_of, typed
from admin.portal.billing.overview import find_cap
from admin.portal.billing.paying import ask, keep_asked, return_urls
from admin.portal.billing.views import CapForm, CapPage, CreditPage, TopUpForm
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pages import REFUSALS, Problem, leave, page, problem_of, redirect
from admin.web.parts import PageRequest, account_in, parts_of, visitor_in
from billing.caps import service as caps
from billing.caps.model import CapView, NoCap, SpendCap
from billing.credit import service as credit
from billing.credit.model import CreditView, NoCredit
from billing.credit.topups import BOUNDS, start_top_up
from billing.subscriptions import store
from billing.subscriptions.catalogue import minor_units
from billing.subscriptions.model import current
from gateway.accounts.model import Account
from gateway.plans import service as plans
from gateway.units import Currency

CHOICES = {
    Currency.IDR: (5_000_000, 10_000_000, 25_000_000, 50_000_000),
    Currency.USD: (500, 1_000, 2_500, 5_000),
}
"""Amounts to pay in, in minor units: Rp 50,000 to Rp 500,000, and $ 5 to $ 50."""
OTHER = "other"


@get("/billing/cap", access=Access.CONFIRMED, back="/billing")
async def cap_page(request: PageRequest) -> Response[str]:
    """Show the cap, what was used of it, and the form that sets it."""
    return await _cap(request, None)


@post("/billing/cap", access=Access.CONFIRMED, back="/billing/cap")
async def set_cap(request: PageRequest) -> Response[str]:
    """Cap what may be spent in a month."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, CapForm)
    account = await account_in(request)
    try:
        cap = SpendCap(
            monthly_tokens=tokens_of(form.tokens, least=0, param="tokens"),
            monthly_micro=micro_of(form.amount, account.currency, visitor.language, param="amount"),
        )
        if cap.monthly_tokens is None and cap.monthly_micro is None:
            raise FormRefused("Write an amount, a number of tokens, or both.", param="amount")
        async with parts.db.acquire() as connection, connection.transaction():
            clock = parts.door.clock
            before = await caps.find_cap(connection, clock, account.account_id)
            await caps.set_cap(connection, clock, account.account_id, cap)
            await trail.keep(connection, clock, visitor.inside.person, "cap:set", before=before, after=cap)
    except REFUSALS as error:
        return await _cap(request, form, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/billing", notice="cap_set")


@post("/billing/cap/remove", access=Access.CONFIRMED, back="/billing/cap")
async def remove_cap(request: PageRequest) -> Response[str]:
    """Take the cap away; one that is away already stays away."""
    parts, account = parts_of(request), await account_in(request)
    try:
        async with parts.db.acquire() as connection, connection.transaction():
            clock = parts.door.clock
            before = await caps.find_cap(connection, clock, account.account_id)
            await caps.remove_cap(connection, clock, account.account_id)
            person = visitor_in(request).inside.person
            await trail.keep(connection, clock, person, "cap:remove", before=before)
    except NoCap:
        return redirect(request, "/billing/cap")
    return redirect(request, "/billing", notice="cap_removed")


@get("/billing/credit", access=Access.CONFIRMED, back="/billing")
async def credit_page(request: PageRequest) -> Response[str]:
    """Show the credit, where it went, and the form that pays some in."""
    return await _credit(request, TopUpForm())


@post("/billing/credit", access=Access.CONFIRMED, back="/billing/credit")
async def top_up(request: PageRequest) -> Response[str]:
    """Go on to Checkout, where credit is paid in."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, TopUpForm)
    account = await account_in(request)
    try:
        amount_minor = _amount_minor(form, account, micro=_typed_micro(request, form, account))
        address = await ask(
            request,
            lambda till: start_top_up(
                parts.db,
                till.clock,
                till.stripe,
                account.account_id,
                amount_minor=amount_minor,
                urls=return_urls(parts),
            ),
            is_change=False,
        )
        await keep_asked(request, "credit:checkout", after={"amount_minor": amount_minor})
    except REFUSALS as error:
        return await _credit(request, form, problem=problem_of(visitor, error), status=status_of(error))
    return leave(address)


def _typed_micro(request: PageRequest, form: TopUpForm, account: Account) -> int | None:
    if form.choice not in {OTHER, ""}:
        return None
    return micro_of(form.amount, account.currency, visitor_in(request).language, param="amount")


def _amount_minor(form: TopUpForm, account: Account, *, micro: int | None) -> int:
    """Return what is paid in, in minor units; ``FormRefused`` for nothing, and for what is out of bounds."""
    bounds, offered = BOUNDS[account.currency], {str(choice): choice for choice in CHOICES[account.currency]}
    if form.choice in offered:
        return offered[form.choice]
    if micro is None:
        raise FormRefused("Choose an amount, or write another one.", param="amount")
    minor = minor_units(micro, account.currency)
    if not bounds.least_minor <= minor <= bounds.most_minor:
        raise FormRefused("That is less or more than can be paid in at once.", param="amount")
    return minor


async def _cap(
    request: PageRequest, form: CapForm | None, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, visitor, account = parts_of(request), visitor_in(request), await account_in(request)
    cap = await find_cap(parts, account.account_id)
    view = CapPage(
        form=form or (_filled(cap, visitor.language) if cap else CapForm()),
        cap=cap,
        plan=await plans.get_plan(parts.db, account.plan_id),
        currency=account.currency,
        example=example_of(account.currency, visitor.language),
        problem=problem,
    )
    return page(request, "billing/cap.html", view, status=status)


def _filled(cap: CapView, language: Language) -> CapForm:
    return CapForm(
        amount="" if cap.monthly_amount is None else typed(cap.monthly_amount, language),
        tokens="" if cap.monthly_tokens is None else str(cap.monthly_tokens),
    )


async def _credit(
    request: PageRequest, form: TopUpForm, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, account = parts_of(request), await account_in(request)
    found: CreditView | None
    try:
        found = await credit.show(parts.db, parts.door.clock, account.account_id)
    except NoCredit:
        found = None
    subscription = current(await store.subscriptions_of(parts.db, account.account_id))
    view = CreditPage(
        form=form,
        choices=CHOICES[account.currency],
        bounds=BOUNDS[account.currency],
        example=example_of(account.currency, visitor_in(request).language),
        balance=found.balance if found else None,
        latest=found.latest if found else (),
        currency=account.currency,
        has_subscription=subscription is not None,
        can_pay=parts.till is not None,
        problem=problem,
    )
    return page(request, "billing/credit.html", view, status=status)


ROUTES = [cap_page, set_cap, remove_cap, credit_page, top_up]
