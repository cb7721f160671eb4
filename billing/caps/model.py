"""Caps in tokens and in money, and what admission makes of them.

Admission counts tokens, and money follows only when an answer is known. So money that is left is turned into the
tokens that it buys at the highest price of all models: whatever those tokens turn out to be, they cost no more. As
requests end and cost less, the limit rises again. The cap is never passed by what was admitted; an upstream that
serves more than it was asked for, and corrections of an operator's, are the only ways beyond it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from gateway.clock import Month, month_end, month_of
from gateway.errors import NusagateError
from gateway.keys.model import SpendGuard
from gateway.plans.model import LIMIT_MAX
from gateway.units import PICO_PER_MICRO, AmountPico, Currency

WHOLE_PERCENT = 100
THRESHOLDS = (100, 80, 50)
"""Percent of a limit at which an account's owner can get a mail, the highest first."""
EXHAUSTED_TOKENS = 256
"""With less room than this hardly any request is admitted: the cap counts as reached."""
KEEP_NUMERATOR, KEEP_DENOMINATOR = 9, 10
"""A limit is raised when the room has grown by more than a tenth, so that a busy account's keys stay cached."""


SPLIT_BEFORE_END = timedelta(minutes=2)
"""Credit lasts over the end of a month, and both months may not spend it: before the end each gets half of it."""


class SpendCap(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent in a month: tokens, micro-currency, or both; ``None`` is no cap of that kind."""

    monthly_tokens: int | None
    monthly_micro: int | None


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """A guarded account in a month: what it has used, what that cost, and the limit that admission has now.

    ``credit_pico`` is what is left of its credit; ``None`` where usage is not paid from credit. ``rate_max`` is the
    highest price in micro-currency for a million tokens, which is pico-currency for one. ``percents`` are those at
    which mail is wanted, the highest first.
    """

    account_id: UUID
    currency: Currency
    email: str
    language: str | None
    percents: tuple[int, ...]
    cap: SpendCap | None
    credit_pico: int | None
    used_tokens: int
    billable_pico: AmountPico
    rate_max: int
    guard: SpendGuard


class PlanUse(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has used of its month's tokens, and at which percents its owner wants mail."""

    account_id: UUID
    email: str
    language: str | None
    percents: tuple[int, ...]
    used_tokens: int
    limit_tokens: int


class Reached(msgspec.Struct, frozen=True):
    """How much of a limit is used; ``subject`` is ``tokens`` or ``money`` of a cap, or ``plan``."""

    subject: str
    percent: int


class CapView(msgspec.Struct, frozen=True, kw_only=True):
    """A cap as its owner sees it; the limit is what admission allows at this moment."""

    account_id: UUID
    currency: Currency
    period: Month
    monthly_tokens: int | None
    monthly_amount: str | None
    used_tokens: int
    spent_amount: str
    limit_tokens: int
    resets_at: datetime


class NoCap(NusagateError):
    """The account has no cap."""

    code = "no_spend_cap"


def guard_of(spending: Spending, now: datetime) -> SpendGuard:
    """Turn a cap and credit into limits of tokens: for this month as it stands, and for any other."""
    period = month_of(now)
    pairs = [(LIMIT_MAX, LIMIT_MAX)]
    if spending.cap is not None:
        pairs.append(_by_cap(spending, spending.cap))
    if spending.credit_pico is not None:
        pairs.append(_by_credit(spending, spending.credit_pico, month_end(period) - now))
    return SpendGuard(
        period=period,
        period_tokens=min(this for this, _ in pairs),
        other_tokens=min(other for _, other in pairs),
    )


def _by_cap(spending: Spending, cap: SpendCap) -> tuple[int, int]:
    """Return the limits of a cap: what is left for this month, and all of it for any other."""
    tokens = LIMIT_MAX if cap.monthly_tokens is None else cap.monthly_tokens
    if cap.monthly_micro is None:
        return tokens, tokens
    cap_pico = cap.monthly_micro * PICO_PER_MICRO
    left = spending.used_tokens + tokens_for(cap_pico - spending.billable_pico, spending.rate_max)
    return min(tokens, left), min(tokens, tokens_for(cap_pico, spending.rate_max))


def _by_credit(spending: Spending, credit_pico: int, until_end: timedelta) -> tuple[int, int]:
    """Return the limits of credit: all of it for this month and nothing for another, or half for each at its end."""
    if until_end > SPLIT_BEFORE_END:
        return min(LIMIT_MAX, spending.used_tokens + tokens_for(credit_pico, spending.rate_max)), 0
    half = tokens_for(credit_pico // 2, spending.rate_max)
    return min(LIMIT_MAX, spending.used_tokens + half), half


def rates_until(now: datetime) -> datetime:
    """Return until when prices count for limits: the end of the next month, because limits of that are kept, too."""
    return month_end(month_of(month_end(month_of(now))))


def tokens_for(amount_pico: int, rate_max: int) -> int:
    """Return how many tokens an amount buys at least; all there can be where every price is zero."""
    if amount_pico <= 0:
        return 0
    return min(LIMIT_MAX, amount_pico // rate_max) if rate_max else LIMIT_MAX


def is_worth_writing(spending: Spending, wanted: SpendGuard) -> bool:
    """Tell whether a limit must change: at once where it falls, and where the room has grown by a tenth."""
    known = spending.guard
    if wanted.period != known.period or wanted.other_tokens != known.other_tokens:
        return True
    if wanted.period_tokens < known.period_tokens:
        return True
    room, room_wanted = (
        max(0, limit - spending.used_tokens) for limit in (known.period_tokens, wanted.period_tokens)
    )
    return room * KEEP_DENOMINATOR < room_wanted * KEEP_NUMERATOR


def reached(spending: Spending) -> list[Reached]:
    """Say how much of each cap is used, in whole percent rounded down; 100 where hardly any room is left."""
    cap, found = spending.cap, list[Reached]()
    if cap is None:
        return found
    if cap.monthly_tokens is not None:
        left = cap.monthly_tokens - spending.used_tokens
        found.append(Reached("tokens", _percent(spending.used_tokens, cap.monthly_tokens, left)))
    if cap.monthly_micro is not None:
        cap_pico = cap.monthly_micro * PICO_PER_MICRO
        left = tokens_for(cap_pico - spending.billable_pico, spending.rate_max)
        found.append(Reached("money", _percent(spending.billable_pico, cap_pico, left)))
    return found


def plan_reached(use: PlanUse) -> Reached:
    """Say the same of the month's tokens."""
    return Reached("plan", _percent(use.used_tokens, use.limit_tokens, use.limit_tokens - use.used_tokens))


def passed(percent: int, percents: Collection[int]) -> list[int]:
    """Return the thresholds that a percentage has reached, of those at which mail is wanted, the highest first."""
    return [threshold for threshold in THRESHOLDS if threshold in percents and percent >= threshold]


def _percent(used: int, cap: int, left_tokens: int) -> int:
    if left_tokens < EXHAUSTED_TOKENS and 2 * used >= cap:
        return WHOLE_PERCENT
    return min(WHOLE_PERCENT, used * WHOLE_PERCENT // cap)
