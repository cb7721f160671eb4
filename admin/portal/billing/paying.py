"""Talking to Stripe for somebody who waits: within seconds, and every refusal is a sentence beside the form.

Pages are made from our own tables; only what somebody sends by a form comes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from admin.access import trail
from admin.access.delays import PAYING, attempt
from admin.access.model import AccessError
from admin.web.parts import PageRequest, Parts, Till, parts_of, visitor_in
from billing.stripe.errors import Effect, StripeDeclined, StripeError, StripeRefused
from billing.subscriptions.model import AlreadySubscribed, CheckoutClosed, NoPriceForPlan, NotSubscribed
from billing.subscriptions.service import ReturnUrls, Subscriptions
from gateway.errors import NusagateError
from gateway.plans.model import PlanNotFound
from gateway.runtime.logging import describe, get_logger

log = get_logger("portal")

Result = TypeVar("Result")


class PayingNotSetUp(AccessError):
    """Paying is not set up on this installation."""

    code = "paying_not_set_up"


class PayingAway(AccessError):
    """The payment service cannot be reached at the moment. Nothing was changed; try again in a minute."""

    code = "paying_away"


class PayingUnclear(AccessError):
    """The payment service did not answer in time. What it did shows on the billing page within minutes; look there before you try again."""

    code = "paying_unclear"


class PayingRefused(AccessError):
    """The payment service refused this, and it was noted. Nothing was changed; please ask us."""

    code = "paying_refused"


class Declined(AccessError):
    """Your card was declined, and nothing has changed. Choose another card under “Payment method”, then try again."""

    code = "card_declined"


class PlanThere(AccessError):
    """You have a plan already. Change it instead of buying another."""

    code = "plan_there"


class NoPlanThere(AccessError):
    """There is no paid plan any more that could be changed."""

    code = "no_plan_there"


class MonthEnding(AccessError):
    """The month is almost over. Plans can be bought again from 00:00 UTC on."""

    code = "month_ending"


class NotSold(AccessError):
    """This plan is not sold here, or not in your currency."""

    code = "not_sold"


REASONS: Mapping[type[NusagateError], type[AccessError]] = {
    AlreadySubscribed: PlanThere,
    NotSubscribed: NoPlanThere,
    CheckoutClosed: MonthEnding,
    NoPriceForPlan: NotSold,
    PlanNotFound: NotSold,
}


async def ask(request: PageRequest, act: Callable[[Till], Awaitable[Result]], *, is_change: bool) -> Result:
    """Have something done at Stripe; an ``AccessError`` says in the visitor's words why it was not.

    ``is_change`` tells a change from the opening of a page of Stripe's, which may be repeated whatever became of it.
    """
    parts = parts_of(request)
    if parts.till is None:
        raise PayingNotSetUp
    account_id = visitor_in(request).inside.person.account_id
    await attempt(parts.db, parts.door.keyring, PAYING, str(account_id), parts.door.clock.now())
    try:
        async with asyncio.timeout(parts.settings.limits.payment_timeout_s):
            return await act(parts.till)
    except TimeoutError:
        log.warning("paying failed", code="timeout")
        raise (PayingUnclear if is_change else PayingAway) from None
    except StripeError as error:
        log.warning("paying failed", **describe(error))
        raise _reason(error, is_change=is_change) from error
    except tuple(REASONS) as error:
        raise REASONS[type(error)] from error


def subscriptions(parts: Parts, till: Till) -> Subscriptions:
    """Return what an account's owner can do about its plan."""
    return Subscriptions(parts.db, till.clock, till.stripe, till.limits)


def return_urls(parts: Parts) -> ReturnUrls:
    """Return where Checkout leads back to; Stripe writes the session's id into the address."""
    base = parts.settings.base.public_url
    return ReturnUrls(
        success=f"{base}/billing/paid?session={{CHECKOUT_SESSION_ID}}", cancel=f"{base}/billing/left"
    )


def _reason(error: StripeError, *, is_change: bool) -> AccessError:
    if isinstance(error, StripeDeclined):
        return Declined()
    if isinstance(error, StripeRefused):
        return PayingRefused()
    return PayingUnclear() if is_change and error.effect is not Effect.NONE else PayingAway()


async def keep_asked(request: PageRequest, action: str, *, after: object = None) -> None:
    """Keep what somebody asked of Stripe, once it has done it; what that gives the account is kept where it is applied."""
    parts = parts_of(request)
    async with parts.db.acquire() as connection, connection.transaction():
        await trail.keep(connection, parts.door.clock, visitor_in(request).inside.person, action, after=after)
