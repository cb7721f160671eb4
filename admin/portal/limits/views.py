"""What the page of limits shows."""

import msgspec

from gateway.plans.model import Plan


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
    """The limits in force, the plan that they come from, and what a refused request gets."""

    plan: Plan
    rows: list[LimitRow]
    sample: str | None
