"""What every plan would cost an account, now and from the 1st on: the rules of ``docs/billing.md``, before anybody pays.

Stripe reckons to the second when it charges, so what is due now is that of the moment at which it is shown.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from billing.subscriptions.model import FREE_PLAN, Price, Subscription
from gateway.clock import month_end, month_of, month_start
from gateway.plans.model import Billing, Plan

METERED = "metered"


class Step(StrEnum):
    """What choosing a plan would be."""

    NOTHING = "nothing"
    """It is chosen already, or there is no way to it."""
    BUY = "buy"
    DEARER = "dearer"
    CHEAPER = "cheaper"
    BACK = "back"
    """To the plan that is still paid for."""
    TO_METERED = "to_metered"
    FROM_METERED = "from_metered"
    CANCEL = "cancel"
    NOT_SOLD = "not_sold"
    """Not in this currency, or prices are not set up at Stripe."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account stands: its plan, what it pays for, and ``held``, a dearer plan that is still paid for.

    ``paid`` is the flat price that is paid for this month, which may be an old one.
    """

    plan_id: str
    subscription: Subscription | None
    held: str | None
    paid: Price | None
    prices: dict[str, Price]
    now: datetime


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, what choosing it is, and its cost in minor units; ``monthly_minor`` is ``None`` where tokens are paid."""

    plan: Plan
    step: Step
    is_current: bool
    is_next: bool
    now_minor: int
    monthly_minor: int | None
    begins_at: datetime


def offers(plans: Sequence[Plan], standing: Standing) -> list[Offer]:
    """Say of each plan what choosing it would be and cost."""
    return [_offer(plan, standing) for plan in plans]


def held_plan(subscription: Subscription, now: datetime) -> str | None:
    """Return the dearer plan that is still paid for although a cheaper one was chosen."""
    until = subscription.held_until
    return subscription.held_plan_id if until is not None and now < until else None


def change_step(price: Price, subscription: Subscription, paid: Price | None, *, held: str | None) -> Step:
    """Say what moving a subscription to another plan is; ``paid`` is the price of the flat plan that is paid for."""
    if price.kind == METERED:
        return Step.TO_METERED
    if subscription.flat_item_id is None or paid is None:
        return Step.FROM_METERED
    if int(price.unit_amount_decimal) < int(paid.unit_amount_decimal):
        return Step.CHEAPER
    return Step.BACK if price.plan_id == held else Step.DEARER


def share_minor(amount_minor: int, now: datetime) -> int:
    """Return the share of a monthly amount for what is left of the month, to the second, half a minor unit up."""
    start, end = month_start(month_of(now)), month_end(month_of(now))
    left_s, whole_s = (int(end.timestamp()) - int(moment.timestamp()) for moment in (now, start))
    return (2 * amount_minor * left_s + whole_s) // (2 * whole_s)


def _offer(plan: Plan, standing: Standing) -> Offer:
    subscription, now = standing.subscription, standing.now
    price = standing.prices.get(plan.plan_id)
    step = _step(plan, price, standing)
    is_later = subscription is not None and step in {Step.CHEAPER, Step.CANCEL}
    return Offer(
        plan=plan,
        step=step,
        is_current=plan.plan_id == standing.plan_id,
        is_next=_is_next(plan, standing),
        now_minor=_now_minor(step, price, standing),
        monthly_minor=_monthly_minor(plan, price),
        begins_at=subscription.period_end if is_later and subscription else now,
    )


def _step(plan: Plan, price: Price | None, standing: Standing) -> Step:
    subscription = standing.subscription
    if plan.billing is Billing.FREE:
        can_end = subscription is not None and subscription.cancel_at is None and plan.plan_id == FREE_PLAN
        return Step.CANCEL if can_end else Step.NOTHING
    if price is None:
        return Step.NOT_SOLD
    if subscription is None:
        return Step.BUY
    if plan.plan_id == subscription.plan_id:
        return Step.NOTHING
    return change_step(price, subscription, standing.paid, held=standing.held)


def _is_next(plan: Plan, standing: Standing) -> bool:
    """Tell whether the plan follows the one that holds, without anything being done."""
    subscription = standing.subscription
    if subscription is None:
        return False
    if subscription.cancel_at is not None:
        return plan.plan_id == FREE_PLAN
    return standing.held is not None and plan.plan_id == subscription.plan_id


def _now_minor(step: Step, price: Price | None, standing: Standing) -> int:
    if price is None or price.kind == METERED or step not in {Step.BUY, Step.FROM_METERED, Step.DEARER}:
        return 0
    share = share_minor(int(price.unit_amount_decimal), standing.now)
    paid = standing.paid if step is Step.DEARER else None
    return share - share_minor(int(paid.unit_amount_decimal), standing.now) if paid else share


def _monthly_minor(plan: Plan, price: Price | None) -> int | None:
    if plan.billing is Billing.FREE:
        return 0
    return int(price.unit_amount_decimal) if price is not None and price.kind != METERED else None
