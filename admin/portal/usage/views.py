"""What the usage page shows, and how its address becomes a range of time and a grouping."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from admin.portal.amounts import FormRefused
from admin.reports.model import Call
from admin.web.i18n import mark
from gateway.clock import month_end, month_of, month_start
from gateway.ledger.model import EndReason, UsageRow

RANGE_DAYS_MAX = 366
A_DAY = timedelta(days=1)


class Preset(StrEnum):
    """The ranges that have a name."""

    TODAY = "today"
    WEEK = "7d"
    MONTH = "month"
    LAST_MONTH = "last-month"
    CUSTOM = "custom"


PRESETS = {
    Preset.TODAY: mark("Today"),
    Preset.WEEK: mark("Last 7 days"),
    Preset.MONTH: mark("This month"),
    Preset.LAST_MONTH: mark("Last month"),
}


class Group(StrEnum):
    """What a line of the table sums."""

    DAY = "day"
    HOUR = "hour"
    MODEL = "model"
    KEY = "key"
    USER = "user"


GROUPS = {
    Group.DAY: mark("Day"),
    Group.HOUR: mark("Hour"),
    Group.MODEL: mark("Model"),
    Group.KEY: mark("Key"),
    Group.USER: mark("End user"),
}


ENDINGS = {
    EndReason.COMPLETED: mark("completed"),
    EndReason.INCOMPLETE: mark("cut at its limit"),
    EndReason.UPSTREAM_ERROR: mark("failed at the model"),
    EndReason.UPSTREAM_RESET: mark("model broke off"),
    EndReason.UPSTREAM_TIMEOUT: mark("model was too slow"),
    EndReason.CLIENT_GONE_DRAINED: mark("client left, read to its end"),
    EndReason.CLIENT_GONE_CANCELLED: mark("client left, cancelled"),
    EndReason.DRAINED_AT_SHUTDOWN: mark("ended at a restart"),
    EndReason.GATEWAY_CRASH: mark("recovered after a crash"),
}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A range of time in UTC, half-open; ``last_day`` is the last one in it."""

    preset: Preset
    start: datetime
    end: datetime

    @property
    def first_day(self) -> str:
        """The first day, as the form and the address write it."""
        return self.start.date().isoformat()

    @property
    def last(self) -> datetime:
        """The beginning of the last day."""
        return self.end - A_DAY

    @property
    def last_day(self) -> str:
        """The last day, as the form and the address write it."""
        return self.last.date().isoformat()


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """How the month stands: tokens used and held, the limit if there is one, and where it is heading."""

    used: int
    held: int
    limit: int | None
    remaining: int | None
    resets_at: datetime
    days_left: int
    today_used: int
    forecast: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table: what it sums, as people read it, and its numbers."""

    label: str
    detail: str | None = None
    moment: datetime | None = None
    row: UsageRow


class UsagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page, from one view of the read models."""

    month: Month
    span: Span
    group: Group
    presets: dict[Preset, str]
    groups: dict[Group, str]
    lines: list[Line]
    total: UsageRow | None
    latest: list[Call]
    endings: dict[EndReason, str]
    key_names: dict[str, str]
    has_keys: bool
    query: str


def span_of(preset: str | None, start: str | None, end: str | None, now: datetime) -> Span:
    """Read the range of an address; ``FormRefused`` where it cannot be one."""
    name = preset or (Preset.CUSTOM if start or end else Preset.MONTH)
    if name not in set(Preset):
        raise FormRefused("This range is not known.", param="range")
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC)
    month = month_of(now)
    match Preset(name):
        case Preset.TODAY:
            return Span(preset=Preset.TODAY, start=midnight, end=midnight + A_DAY)
        case Preset.WEEK:
            return Span(preset=Preset.WEEK, start=midnight - 6 * A_DAY, end=midnight + A_DAY)
        case Preset.MONTH:
            return Span(preset=Preset.MONTH, start=month_start(month), end=month_end(month))
        case Preset.LAST_MONTH:
            ended = month_start(month)
            before = month_start(month_of(ended - A_DAY))
            return Span(preset=Preset.LAST_MONTH, start=before, end=ended)
        case Preset.CUSTOM:
            return _custom(start, end)


def _custom(start: str | None, end: str | None) -> Span:
    first, last = _day(start, "start"), _day(end, "end")
    if not timedelta(0) <= last - first < timedelta(days=RANGE_DAYS_MAX):
        raise FormRefused(
            "The last day must follow the first one, within %(longest)s days.",
            param="end",
            longest=RANGE_DAYS_MAX,
        )
    return Span(
        preset=Preset.CUSTOM,
        start=datetime.combine(first, time(), tzinfo=UTC),
        end=datetime.combine(last, time(), tzinfo=UTC) + A_DAY,
    )


def _day(text: str | None, name: str) -> date:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise FormRefused("Write the day as 2026-12-31.", param=name) from None


def group_of(name: str | None) -> Group:
    """Read the grouping of an address; ``FormRefused``."""
    if name is None:
        return Group.DAY
    if name not in set(Group):
        raise FormRefused("This grouping is not known.", param="by")
    return Group(name)


def total_of(rows: list[UsageRow]) -> UsageRow | None:
    """Sum the lines of a table, exactly; ``None`` where there is none, or they are in several currencies."""
    if not rows or len({row.currency for row in rows}) > 1:
        return None
    return UsageRow(
        group="",
        requests=sum(row.requests for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        total_tokens=sum(row.total_tokens for row in rows),
        currency=rows[0].currency,
        amount=str(sum((Decimal(row.amount) for row in rows), Decimal(0))),
    )
