"""What the address of a usage page says: a range of time, what the chart stacks, and the length of its bars.

Everything that can be chosen stands in the address, so that a view can be kept, shared and downloaded.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from urllib.parse import urlencode

import msgspec

from admin.portal.amounts import FormRefused
from admin.web.i18n import mark
from gateway.clock import month_end, month_of, month_start

RANGE_DAYS_MAX = 366
HOURLY_DAYS_MAX = 31
HOURLY_BY_ITSELF_DAYS = 2
TEXT_MAX = 50
AN_HOUR = timedelta(hours=1)
A_DAY = timedelta(days=1)


class Preset(StrEnum):
    """The ranges that have a name."""

    TODAY = "today"
    WEEK = "7d"
    DAYS_30 = "30d"
    MONTH = "month"
    LAST_MONTH = "last-month"
    CUSTOM = "custom"


PRESETS = {
    Preset.TODAY: mark("Today"),
    Preset.WEEK: mark("7 days"),
    Preset.DAYS_30: mark("30 days"),
    Preset.MONTH: mark("This month"),
    Preset.LAST_MONTH: mark("Last month"),
}


class Group(StrEnum):
    """What a bar is divided into."""

    MODEL = "model"
    KEY = "key"
    USER = "user"
    STATUS = "status"


GROUPS = {
    Group.MODEL: mark("Model"),
    Group.KEY: mark("Key"),
    Group.USER: mark("End user"),
    Group.STATUS: mark("Status"),
}


class Step(StrEnum):
    """How much time a bar stands for."""

    HOUR = "hour"
    DAY = "day"


STEPS = {Step.HOUR: mark("Hours"), Step.DAY: mark("Days")}
LENGTHS = {Step.HOUR: AN_HOUR, Step.DAY: A_DAY}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A range of time in UTC, half-open, of whole hours."""

    preset: Preset
    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    @property
    def first_day(self) -> str:
        """The first day that it touches, as the form and the address write it."""
        return self.start.date().isoformat()

    @property
    def last(self) -> datetime:
        """The beginning of the last hour."""
        return self.end - AN_HOUR

    @property
    def last_day(self) -> str:
        """The last day that it touches, as the form and the address write it."""
        return self.last.date().isoformat()

    @property
    def has_whole_days(self) -> bool:
        """Whether it begins and ends at midnight."""
        return self.start.hour == 0 and self.end.hour == 0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at: a range, what its bars are divided into, and how long a bar is."""

    span: Span
    group: Group
    step: Step

    @property
    def query(self) -> str:
        """The address of this view, after the question mark."""
        return self.query_for()

    def query_for(
        self, *, span: Span | None = None, group: Group | None = None, step: Step | None = None
    ) -> str:
        """Write the address of a view that differs in some of its choices."""
        span = span or self.span
        values: dict[str, str] = {"range": span.preset.value}
        if span.preset is Preset.CUSTOM:
            values |= {"start": _written(span, span.start), "end": _written(span, span.last)}
        values["by"] = (group or self.group).value
        if step is not None or (span is self.span and self.step is not _usual_step(span)):
            values["step"] = (step or self.step).value
        return urlencode(values)

    def zoom(self, moment: datetime) -> Span | None:
        """Return the range of one bar; ``None`` where there is nothing finer to see."""
        if self.step is Step.HOUR:
            return None
        return Span(preset=Preset.CUSTOM, start=moment, end=moment + A_DAY)

    @property
    def steps(self) -> list[Step]:
        """The lengths of a bar that this view could have."""
        if self.group is Group.USER or self.span.length > HOURLY_DAYS_MAX * A_DAY:
            return [Step.DAY]
        return [Step.HOUR, Step.DAY] if self.span.has_whole_days else [Step.HOUR]


def view_of(query: Iterable[tuple[str, str]], now: datetime) -> View:
    """Read the address of a view; ``FormRefused`` names the value that cannot be right."""
    given: dict[str, str] = {}
    for name, value in query:
        if name not in {"range", "start", "end", "by", "step"}:
            raise FormRefused(
                "This page does not know %(name)s.", param=name[:TEXT_MAX], name=name[:TEXT_MAX]
            )
        if name in given:
            raise FormRefused("This value is there twice.", param=name)
        given[name] = value
    span = _span(given, now)
    group = _group(given.get("by"))
    if group is Group.USER:
        span = _widened(span)
    return View(span=span, group=group, step=_step(given.get("step"), span, group))


def default_view(now: datetime) -> View:
    """Return what is shown where an address says nothing: this month, by model."""
    return view_of((), now)


def _span(given: dict[str, str], now: datetime) -> Span:
    name = given.get("range") or (Preset.CUSTOM if "start" in given or "end" in given else Preset.MONTH)
    if name not in set(Preset):
        raise FormRefused("This range is not known.", param="range")
    preset = Preset(name)
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC)
    month = month_of(now)
    match preset:
        case Preset.TODAY:
            start, end = midnight, midnight + A_DAY
        case Preset.WEEK:
            start, end = midnight - 6 * A_DAY, midnight + A_DAY
        case Preset.DAYS_30:
            start, end = midnight - 29 * A_DAY, midnight + A_DAY
        case Preset.MONTH:
            start, end = month_start(month), month_end(month)
        case Preset.LAST_MONTH:
            end = month_start(month)
            start = month_start(month_of(end - A_DAY))
        case Preset.CUSTOM:
            start, end = _bound(given, "start", last=False), _bound(given, "end", last=True)
            if not timedelta(0) < end - start <= RANGE_DAYS_MAX * A_DAY:
                raise FormRefused(
                    "The end must follow the start, within %(longest)s days.",
                    param="end",
                    longest=RANGE_DAYS_MAX,
                )
    return Span(preset=preset, start=start, end=end)


def _bound(given: dict[str, str], name: str, *, last: bool) -> datetime:
    """Read a day or an hour; as the last one it is part of the range, which ends after it."""
    text = given.get(name, "")
    hourly = "T" in text
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H" if hourly else "%Y-%m-%d").replace(tzinfo=UTC)
        return moment + (AN_HOUR if hourly else A_DAY) if last else moment
    except (ValueError, OverflowError):
        raise FormRefused("Write a day as 2026-12-31, or an hour as 2026-12-31T23.", param=name) from None


def _written(span: Span, moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d" if span.has_whole_days else "%Y-%m-%dT%H")


def _group(name: str | None) -> Group:
    if name is None:
        return Group.MODEL
    if name not in set(Group):
        raise FormRefused("This grouping is not known.", param="by")
    return Group(name)


def _step(name: str | None, span: Span, group: Group) -> Step:
    if name is None:
        return Step.DAY if group is Group.USER else _usual_step(span)
    if name not in set(Step):
        raise FormRefused("A bar is an hour or a day.", param="step")
    step = Step(name)
    if step is Step.HOUR and group is Group.USER:
        raise FormRefused("End users are counted by the day.", param="step")
    if step is Step.HOUR and span.length > HOURLY_DAYS_MAX * A_DAY:
        raise FormRefused(
            "By the hour there is room for %(longest)s days.", param="step", longest=HOURLY_DAYS_MAX
        )
    if step is Step.DAY and not span.has_whole_days:
        raise FormRefused("A range of hours is shown by the hour.", param="step")
    return step


def _usual_step(span: Span) -> Step:
    short = span.length <= HOURLY_BY_ITSELF_DAYS * A_DAY
    return Step.HOUR if short or not span.has_whole_days else Step.DAY


def _widened(span: Span) -> Span:
    """Widen a range to whole days, which is how end users are counted."""
    midnight = span.start.replace(hour=0)
    end = span.end if span.end.hour == 0 else span.end.replace(hour=0) + A_DAY
    return Span(preset=span.preset, start=midnight, end=end)
