"""What Stripe knows of a subscription, and what follows from it: one pure rule for the plan and for the status.

The rule, which ``docs/billing.md`` repeats:

* the plan is that of the newest subscription that is running; without one it is ``payg`` while there is credit, else
  ``free``;
* a dearer plan that was left for a cheaper one stays until its paid month is over;
* a payment that failed leaves everything as it is for the days of grace, then the account must pay first; that holds
  for what an ended subscription still owes, too;
* a payment that a bank questions, or took back, must be settled first, with no grace;
* whatever was owed, paying it brings everything back.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.accounts.model import AccountStatus
from gateway.errors import NusagateError
from gateway.units import Currency

FREE_PLAN = "free"
PREPAID_PLAN = "payg"
"""The plan of an account that has credit and no subscription."""

RUNNING = frozenset({"active", "trialing", "past_due", "unpaid"})
"""Statuses in which a subscription gives its plan (https://docs.stripe.com/billing/subscriptions/overview)."""
OWING = frozenset({"past_due", "unpaid", "canceled"})
"""Statuses in which an invoice that could not be collected is a debt."""
DISPUTE_UNSETTLED = frozenset({"needs_response", "under_review", "lost"})
"""A lost dispute stays unsettled: the bank took the money back. Warnings (``warning_…``) took nothing yet."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as Stripe last told it; ``asked_at`` is when it was asked."""

    subscription_id: str
    account_id: UUID
    customer_id: str
    status: str
    plan_id: str | None
    flat_item_id: str | None
    metered_item_id: str | None
    started_at: datetime
    period_start: datetime
    period_end: datetime
    cancel_at: datetime | None
    ended_at: datetime | None
    owed_since: datetime | None
    held_plan_id: str | None
    held_until: datetime | None
    flat_price_id: str | None = None
    held_price_id: str | None = None
    asked_at: datetime

    @property
    def running(self) -> bool:
        """Whether the subscription gives its plan."""
        return self.status in RUNNING and self.plan_id is not None


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that a bank questions; the amount in Stripe's minor units."""

    dispute_id: str
    account_id: UUID
    charge_id: str
    amount_minor: int
    currency: str
    reason: str
    status: str
    created_at: datetime
    due_by: datetime | None
    asked_at: datetime


class Notice(StrEnum):
    """What an account's owner should be told; each goes with a date."""

    PAYMENT_FAILED = "payment_failed"
    """A payment failed; at the date keys stop."""
    PAYMENT_REQUIRED = "payment_required"
    """Keys have stopped at the date, because a payment failed."""
    PAYMENT_DISPUTED = "payment_disputed"
    """Keys have stopped at the date, because a bank questions a payment."""
    PLAN_ENDS = "plan_ends"
    """The plan was cancelled and ends at the date."""
    PLAN_CHANGES = "plan_changes"
    """A cheaper plan begins at the date."""


class Entitlement(msgspec.Struct, frozen=True, kw_only=True):
    """What an account is entitled to now, and ``review_at``, when time alone changes that."""

    plan_id: str
    status: AccountStatus
    notice: Notice | None = None
    notice_at: datetime | None = None
    review_at: datetime | None = None


class NoPriceForPlan(NusagateError):
    """This plan is not sold in the account's currency."""

    code = "plan_not_sold"


class AlreadySubscribed(NusagateError):
    """The account has a subscription already; change its plan instead."""

    code = "already_subscribed"


class NotSubscribed(NusagateError):
    """The account has no subscription."""

    code = "not_subscribed"


class CheckoutClosed(NusagateError):
    """The month is almost over; plans can be bought again from 00:00 UTC on."""

    code = "checkout_closed"


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """A price at Stripe; ``unit_amount_decimal`` is minor units for a month, or for one unit of the meter."""

    price_id: str
    lookup_key: str
    plan_id: str
    currency: Currency
    kind: str
    unit_amount_decimal: str


def current(subscriptions: Sequence[Subscription]) -> Subscription | None:
    """Choose the subscription that gives the plan: the newest that is running."""
    running = [subscription for subscription in subscriptions if subscription.running]
    return max(running, key=lambda found: (found.started_at, found.subscription_id), default=None)


def entitle(
    subscriptions: Sequence[Subscription],
    disputes: Sequence[Dispute],
    *,
    now: datetime,
    grace: timedelta,
    has_credit: bool = False,
) -> Entitlement:
    """Decide what an account is entitled to; see the rule at the top of this module."""
    subscription = current(subscriptions)
    plan_id, held_until = _plan(subscription, now)
    if subscription is None and has_credit:
        plan_id = PREPAID_PLAN
    disputed_at = min(
        (dispute.created_at for dispute in disputes if dispute.status in DISPUTE_UNSETTLED), default=None
    )
    if disputed_at is not None:
        return Entitlement(
            plan_id=plan_id,
            status=AccountStatus.PAYMENT_REQUIRED,
            notice=Notice.PAYMENT_DISPUTED,
            notice_at=disputed_at,
            review_at=held_until,
        )
    owed_since = _owed_since(subscriptions)
    if owed_since is not None:
        return _owing(plan_id, owed_since + grace, held_until, now)
    notice, notice_at = _outlook(subscription, held_until)
    return Entitlement(
        plan_id=plan_id,
        status=AccountStatus.ACTIVE,
        notice=notice,
        notice_at=notice_at,
        review_at=held_until,
    )


def _plan(subscription: Subscription | None, now: datetime) -> tuple[str, datetime | None]:
    """Return the plan, and until when it is held although a cheaper one was chosen."""
    if subscription is None or subscription.plan_id is None:
        return FREE_PLAN, None
    held = subscription.held_until
    if subscription.held_plan_id is not None and held is not None and now < held:
        return subscription.held_plan_id, held
    return subscription.plan_id, None


def _owed_since(subscriptions: Sequence[Subscription]) -> datetime | None:
    return min(
        (
            subscription.owed_since
            for subscription in subscriptions
            if subscription.status in OWING and subscription.owed_since is not None
        ),
        default=None,
    )


def _owing(plan_id: str, stops_at: datetime, held_until: datetime | None, now: datetime) -> Entitlement:
    if now >= stops_at:
        return Entitlement(
            plan_id=plan_id,
            status=AccountStatus.PAYMENT_REQUIRED,
            notice=Notice.PAYMENT_REQUIRED,
            notice_at=stops_at,
            review_at=held_until,
        )
    return Entitlement(
        plan_id=plan_id,
        status=AccountStatus.ACTIVE,
        notice=Notice.PAYMENT_FAILED,
        notice_at=stops_at,
        review_at=min(stops_at, held_until) if held_until else stops_at,
    )


def _outlook(
    subscription: Subscription | None, held_until: datetime | None
) -> tuple[Notice | None, datetime | None]:
    if subscription is not None and subscription.cancel_at is not None:
        return Notice.PLAN_ENDS, subscription.cancel_at
    if held_until is not None:
        return Notice.PLAN_CHANGES, held_until
    return None, None
