"""What the page of limits shows."""

import msgspec

from billing.caps.model import CapView
from gateway.plans.model import Plan
from gateway.units import Currency


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: what it bounds, its value if it is set, what is used of it, and what happens when it is reached."""

    name: str
    title: str
    limit: int | None
    used: int | None
    own: bool
    code: str
    reset: str


class LimitsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force, where they come from, the percents at which mail is wanted, and what a refused request gets."""

    plan: Plan
    rows: list[LimitRow]
    cap: CapView | None
    credit: str | None
    currency: Currency
    thresholds: tuple[int, ...]
    percents: tuple[int, ...]
    sample: str | None


class AlertsForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The percents at which mail is wanted."""

    percents: tuple[str, ...] = ()
