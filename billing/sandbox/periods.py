"""Billing periods: where one ends, counted from the anchor so that the 31st comes back after February."""

import calendar
from datetime import UTC, datetime, timedelta

from billing.sandbox.fields import Fields
from billing.sandbox.refusals import Refusal
from billing.sandbox.state import Json

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}
MAX_PERIODS = 10_000


def boundary_after(anchor: int, recurring: Json, moment: int) -> int:
    """Return the first boundary later than a moment, in Unix seconds; the anchor itself is one."""
    if moment < anchor:
        return anchor
    for number in range(1, MAX_PERIODS):
        boundary = _shifted(anchor, recurring, number)
        if boundary > moment:
            return boundary
    raise ValueError("the anchor is too far in the past")


def natural_start(anchor: int, recurring: Json, boundary: int) -> int:
    """Return where the whole period that ends at a boundary begins, even if the subscription began later."""
    for number in range(MAX_PERIODS):
        if _shifted(anchor, recurring, number) >= boundary:
            return _shifted(anchor, recurring, number - 1)
    raise ValueError("the boundary is too far from the anchor")


def _shifted(anchor: int, recurring: Json, number: int) -> int:
    """Return the anchor moved by a number of periods; a day that a month lacks becomes its last."""
    steps = number * int(recurring["interval_count"])
    start = datetime.fromtimestamp(anchor, UTC)
    if recurring["interval"] in DAYS:
        return int((start + timedelta(days=steps * DAYS[recurring["interval"]])).timestamp())
    months = start.year * 12 + start.month - 1 + steps * MONTHS[recurring["interval"]]
    year, month = months // 12, months % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int(start.replace(year=year, month=month, day=day).timestamp())


def anchor_from(fields: Fields, recurring: Json, now: int) -> int:
    """Read ``billing_cycle_anchor``, or ``billing_cycle_anchor_config`` for "the 1st at 00:00", else now.

    The anchor must not be later than one period from now, which is Stripe's rule.
    """
    anchor = fields.integer("billing_cycle_anchor")
    config = fields.group("billing_cycle_anchor_config")
    if config is not None:
        anchor = _from_config(config, now)
    if anchor is None:
        return now
    if anchor < now:
        raise Refusal("billing_cycle_anchor must be in the future.", param="billing_cycle_anchor")
    if anchor > _shifted(now, recurring, 1):
        raise Refusal(
            "billing_cycle_anchor cannot be later than the next natural billing date.",
            param="billing_cycle_anchor",
        )
    return anchor


def _from_config(config: Fields, now: int) -> int:
    """Return the next moment with this day of the month and time of day, in UTC."""
    day = config.need_integer("day_of_month")
    given = (config.integer("hour"), config.integer("minute"), config.integer("second"))
    start = datetime.fromtimestamp(now, UTC)
    own = (start.hour, start.minute, start.second)
    hour, minute, second = (here if value is None else value for value, here in zip(given, own, strict=True))
    year, month = start.year, start.month
    while True:
        last = calendar.monthrange(year, month)[1]
        moment = start.replace(
            year=year, month=month, day=min(day, last), hour=hour, minute=minute, second=second
        )
        if moment > start:
            return int(moment.timestamp())
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)  # noqa: PLR2004 - December
