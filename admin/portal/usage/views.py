"""What the usage pages show."""

from datetime import datetime

import msgspec

from admin.portal.usage.address import Group, Preset, Step, View
from admin.portal.usage.chart import Chart, Line
from admin.portal.usage.words import Refusal
from admin.reports.model import Call, CallDetail
from admin.web.pages import Problem
from gateway.clock import month_end, month_of, month_start
from gateway.ledger.model import UsageRow
from gateway.quota import model as quota_model

SECONDS_PER_DAY = 86_400
SECONDS_PER_HOUR = 3_600


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """How the month stands: tokens used and held, the limit if there is one, and where it is heading.

    ``pace`` is tokens a day so far; ``full_at`` is when the limit is reached if it goes on like that, before the reset.
    """

    used: int
    held: int
    limit: int | None
    remaining: int | None
    resets_at: datetime
    days_left: int
    today_used: int
    pace: int
    forecast: int
    full_at: datetime | None
    elapsed_percent: int


class UsagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page of usage."""

    month: Month
    view: View
    chart: Chart
    lines: list[Line]
    total: UsageRow | None
    presets: dict[Preset, str]
    groups: dict[Group, str]
    steps: dict[Step, str]
    refusals: list[Refusal]
    latest: list["CallLine"]
    has_keys: bool
    problem: Problem | None


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """A settled request as a line of a table, with the words for it."""

    call: Call
    label: str
    key_name: str
    ending: str
    source: str


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What requests are chosen by; ``None`` is everything."""

    key: str | None = None
    model: str | None = None
    status: str | None = None


class CallsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of settled requests, what it was chosen by, and where the older ones are."""

    lines: list[CallLine]
    filters: Filters
    keys: list[tuple[str, str]]
    models: list[tuple[str, str]]
    statuses: list[tuple[str, str]]
    is_first: bool
    newest_query: str
    older_query: str | None
    problem: Problem | None


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of token of a request: how many, at what price for a million, and what that makes, all exact."""

    name: str
    tokens: int
    rate: str
    amount: str


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """One settled request: what happened, and how it was counted."""

    label: str
    call: CallDetail
    key_name: str
    ending: tuple[str, str]
    source: tuple[str, str]
    flaw: str | None
    charged: list[Charged]
    amount: str
    raw_usage: str | None
    day_query: str


def month_as_of(now: datetime, *, used: int, held: int, limit: int | None, today_used: int) -> Month:
    """Say how a month stands at a moment of it."""
    period = month_of(now)
    start, resets_at = month_start(period), month_end(period)
    elapsed_s = max(int((now - start).total_seconds()), SECONDS_PER_HOUR)
    full_at = None
    if limit is not None and 0 < used < limit:
        full_at = start + (now - start) * limit // used
    return Month(
        used=used,
        held=held,
        limit=limit,
        remaining=None if limit is None else max(0, limit - used - held),
        resets_at=resets_at,
        days_left=(resets_at - now).days + 1,
        today_used=today_used,
        pace=used * SECONDS_PER_DAY // elapsed_s,
        forecast=quota_model.forecast(used, now),
        full_at=full_at if full_at is not None and full_at < resets_at else None,
        elapsed_percent=(now - start) * 100 // (resets_at - start),
    )
