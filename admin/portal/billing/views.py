"""What the pages of billing show, and the forms that they take."""

from datetime import datetime
from enum import StrEnum

import msgspec

from admin.web.i18n import mark
from admin.web.pages import Problem
from billing.caps.model import CapView
from billing.credit.model import CreditEntry
from billing.credit.topups import TopUpBounds
from billing.invoices.model import Invoice
from billing.invoices.statement import Statement
from billing.subscriptions.model import FREE_PLAN, Entitlement, Subscription
from billing.subscriptions.offers import Offer, Step
from gateway.accounts.model import Account
from gateway.clock import Month, month_end, month_of
from gateway.plans.model import Billing, Plan
from gateway.prices.model import ModelRates
from gateway.units import Currency

RULES = {
    Step.BUY: mark(
        "The plan begins as soon as it is paid, with its whole allowance. Today you pay for the share of this month that is left, reckoned to the second; the whole price is charged on the 1st of every month. Your keys keep working."
    ),
    Step.DEARER: mark(
        "The plan begins at once. Today your card is charged the difference between both plans for the share of this month that is left, reckoned to the second. If the card is declined, nothing changes."
    ),
    Step.CHEAPER: mark(
        "You keep the plan that you have paid for until the month ends; then the cheaper one begins. Nothing is charged now, and nothing is paid back."
    ),
    Step.BACK: mark("This plan is paid for until the month ends, so going back to it costs nothing now."),
    Step.TO_METERED: mark(
        "From now on you pay for the tokens that you use, on the 1st of the next month. What is left of this month's flat price is not paid back. There is no monthly limit unless you set a cap."
    ),
    Step.FROM_METERED: mark(
        "The plan begins at once. Today your card is charged the share of this month that is left, reckoned to the second. The tokens that you used before are billed on the 1st."
    ),
}
"""The rule of each change, as the documentation of billing has it."""
METERED_RULE = mark(
    "You pay for the tokens that you use, on the 1st of the next month; nothing is charged today. There is no monthly limit unless you set a cap."
)


class Outlook(StrEnum):
    """What happens to an account's plan next."""

    RENEWS = "renews"
    BILLS = "bills"
    ENDS = "ends"
    CHANGES = "changes"
    FRESH = "fresh"
    PREPAID = "prepaid"
    GIVEN = "given"


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """What happens next, and when; ``plan`` is the one that follows, ``amount_minor`` what is charged then."""

    what: Outlook
    at: datetime
    plan: Plan
    amount_minor: int | None


class BillingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about an account's money on one page; ``statement`` is ``None`` where it takes too long to make."""

    account: Account
    plan: Plan
    offer: Offer | None
    next: Next
    statement: Statement | None
    period: Month
    month: datetime
    credit: str | None
    cap: CapView | None
    invoices: list[Invoice]
    months: list[datetime]
    has_customer: bool
    can_pay: bool
    can_keep: bool
    can_cancel: bool
    problem: Problem | None = None


class PlansPage(msgspec.Struct, frozen=True, kw_only=True):
    """The plans side by side, what they cost, and what tokens cost where they are paid by use."""

    offers: list[Offer]
    current: Plan
    currency: Currency
    next_month: datetime
    rates: list[tuple[str, ModelRates]]
    can_pay: bool


class PlanPage(msgspec.Struct, frozen=True, kw_only=True):
    """One change of plan, before it is made."""

    offer: Offer
    current: Plan
    currency: Currency
    rule: str
    next_month: datetime
    can_pay: bool
    problem: Problem | None = None


class CancelPage(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a plan, before it is asked for."""

    current: Plan
    free: Plan
    ends_at: datetime
    is_metered: bool
    problem: Problem | None = None


class PaidState(StrEnum):
    """What became of a visit to Checkout."""

    WAITING = "waiting"
    DONE = "done"
    CLOSED = "closed"


class PaidPage(msgspec.Struct, frozen=True, kw_only=True):
    """The way back from Checkout: whether what was paid for is there."""

    session_id: str
    state: PaidState
    plan: Plan | None
    amount_minor: int | None
    currency: Currency


class StepForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody read before they agreed."""

    step: str = ""


class CapForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cap as it was typed."""

    amount: str = ""
    tokens: str = ""


class CapPage(msgspec.Struct, frozen=True, kw_only=True):
    """The cap that there is, what was used of it, and the form."""

    form: CapForm
    cap: CapView | None
    plan: Plan
    currency: Currency
    example: str
    problem: Problem | None = None


class TopUpForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is paid in: one of the amounts, in minor units, or another one as it was typed."""

    choice: str = ""
    amount: str = ""


class CreditPage(msgspec.Struct, frozen=True, kw_only=True):
    """The balance, its latest entries, and the form."""

    form: TopUpForm
    choices: tuple[int, ...]
    bounds: TopUpBounds
    example: str
    balance: str | None
    latest: tuple[CreditEntry, ...]
    currency: Currency
    has_subscription: bool
    can_pay: bool
    problem: Problem | None = None


class InvoicePage(msgspec.Struct, frozen=True, kw_only=True):
    """One invoice as Stripe last told it."""

    invoice: Invoice


class StatementPage(msgspec.Struct, frozen=True, kw_only=True):
    """Our own statement of a month."""

    statement: Statement
    month: datetime


def next_of(
    *,
    account: Account,
    plans: dict[str, Plan],
    offers: dict[str, Offer],
    subscription: Subscription | None,
    standing: Entitlement | None,
    now: datetime,
) -> Next:
    """Say what happens to an account's plan next."""
    plan = plans[account.plan_id]
    at = subscription.period_end if subscription else month_end(month_of(now))
    if subscription is not None and subscription.cancel_at is not None:
        return Next(what=Outlook.ENDS, at=subscription.cancel_at, plan=plans[FREE_PLAN], amount_minor=0)
    following = plans.get(subscription.plan_id or "") if subscription else None
    offer = offers.get(following.plan_id) if following else None
    amount_minor = offer.monthly_minor if offer else None
    if subscription is not None and following is not None and following.plan_id != plan.plan_id:
        return Next(what=Outlook.CHANGES, at=at, plan=following, amount_minor=amount_minor)
    if subscription is not None:
        what = Outlook.BILLS if plan.billing is Billing.METERED else Outlook.RENEWS
        return Next(what=what, at=at, plan=plan, amount_minor=amount_minor)
    if plan.billing is Billing.FREE:
        return Next(what=Outlook.FRESH, at=at, plan=plan, amount_minor=0)
    is_prepaid = standing is not None and standing.plan_id == plan.plan_id
    return Next(what=Outlook.PREPAID if is_prepaid else Outlook.GIVEN, at=at, plan=plan, amount_minor=None)


def months_shown(used: list[Month], now: datetime) -> list[Month]:
    """List the months that there is a statement of, newest first: those with usage, and this one."""
    this = month_of(now)
    return [this, *(month for month in used if month != this)]
