"""From the sums of a view to what a page draws and says of them: bars of parts, lines of a table, an axis; pure.

Nothing is divided but what is only drawn; what is said is summed, exactly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from admin.portal.usage.address import LENGTHS, Step, View
from admin.reports.model import Cell, Cells
from gateway.ledger.model import UsageRow
from gateway.units import AmountPico, format_amount

SERIES_MAX = 6
LINES_MAX = 100
TICKS_MAX = 8
TICK_STEPS = (1, 2, 3, 4, 6, 7, 12, 24, 48, 96, 168)
NICE = (1, 2, 4, 6, 8, 10)
WHOLE = 100_000
"""The width and the height of the plot, in thousandths of a percent."""

Name = Callable[[str], tuple[str, str | None]]
"""How a group is called: its name, and what is said under it."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What one colour stands for; the last may be all the smaller groups together, which have no name."""

    colour: str
    group: str | None
    label: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle of a bar, in percents of the plot: how far from the left and the top, how wide and high."""

    colour: str
    left: str
    top: str
    width: str
    height: str


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One hour or day with usage: its sums, its tokens in each series, and the address that shows it closer."""

    moment: datetime
    tokens: list[int]
    requests: int
    total_tokens: int
    amounts: dict[str, int]
    zoom: str | None


class Tick(msgspec.Struct, frozen=True):
    """Where on the axis of time something is written."""

    left: str
    moment: datetime


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table: what it sums, as people read it, its numbers, and the colour that stands for it."""

    label: str
    detail: str | None = None
    colour: str
    row: UsageRow
    amount_pico: AmountPico


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is drawn, and the numbers that it is drawn from."""

    series: list[Series]
    bars: list[Bar]
    parts: list[Part]
    ticks: list[Tick]
    top: int
    start_s: int
    end_s: int
    step_s: int

    @property
    def amounts_pico(self) -> list[int]:
        """What the bars are worth, whatever their currency."""
        return [amount for bar in self.bars for amount in bar.amounts.values()]

    @property
    def highest(self) -> Bar | None:
        """The bar with the most tokens."""
        return max(self.bars, key=lambda bar: bar.total_tokens, default=None)


def chart_of(view: View, cells: Cells, name: Name) -> Chart:
    """Lay out the bars of a view."""
    groups = list(dict.fromkeys(cell.group for cell in cells.sums if cell.group is not None))[:SERIES_MAX]
    series = [
        Series(colour=str(place), group=group, label=name(group)[0]) for place, group in enumerate(groups, 1)
    ]
    if any(cell.group is None for cell in cells.parts):
        series.append(Series(colour="rest", group=None, label=""))
    bars = [_bar(view, series, moment, parts) for moment, parts in _by_moment(cells.parts)]
    top = nice_top(max((bar.total_tokens for bar in bars), default=0))
    length = LENGTHS[view.step]
    return Chart(
        series=series,
        bars=bars,
        parts=[part for bar in bars for part in _parts(view, series, bar, top)],
        ticks=list(_ticks(view)),
        top=top,
        start_s=int(view.span.start.timestamp()),
        end_s=int(view.span.end.timestamp()),
        step_s=int(length.total_seconds()),
    )


def lines_of(cells: Cells, series: Sequence[Series], name: Name) -> list[Line]:
    """Write the sums of the groups as lines of a table; the last may have no name."""
    colours = {one.group: one.colour for one in series}
    lines = []
    for cell in cells.sums:
        label, detail = name(cell.group) if cell.group is not None else ("", None)
        lines.append(
            Line(
                label=label,
                detail=detail,
                colour=colours.get(cell.group, "rest"),
                row=row_of(cell),
                amount_pico=cell.amount_pico,
            )
        )
    return lines


def row_of(cell: Cell) -> UsageRow:
    """Write a sum as the API does."""
    return UsageRow(
        group=cell.group or "",
        requests=cell.requests,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        total_tokens=cell.total_tokens,
        currency=cell.currency,
        amount=format_amount(cell.amount_pico),
    )


def total_of(sums: Sequence[Cell]) -> UsageRow | None:
    """Sum the lines of a table, exactly; ``None`` where there is none, or they are in several currencies."""
    if len({cell.currency for cell in sums}) != 1:
        return None
    return UsageRow(
        group="",
        requests=sum(cell.requests for cell in sums),
        input_tokens=sum(cell.input_tokens for cell in sums),
        output_tokens=sum(cell.output_tokens for cell in sums),
        total_tokens=sum(cell.total_tokens for cell in sums),
        currency=sums[0].currency,
        amount=format_amount(AmountPico(sum(cell.amount_pico for cell in sums))),
    )


def nice_top(most: int) -> int:
    """Return the end of an axis that holds a number, is round, and has a round middle."""
    scale = 1
    while True:
        for step in NICE:
            if most <= step * scale:
                return max(step * scale, 2)
        scale *= 10


def _by_moment(parts: Iterable[Cell]) -> Iterator[tuple[datetime, list[Cell]]]:
    together: dict[datetime, list[Cell]] = {}
    for cell in parts:
        assert cell.moment is not None
        together.setdefault(cell.moment, []).append(cell)
    return iter(together.items())


def _bar(view: View, series: Sequence[Series], moment: datetime, parts: Sequence[Cell]) -> Bar:
    tokens = dict.fromkeys((one.group for one in series), 0)
    amounts: dict[str, int] = {}
    for cell in parts:
        tokens[cell.group] += cell.total_tokens
        amounts[cell.currency] = amounts.get(cell.currency, 0) + cell.amount_pico
    closer = view.zoom(moment)
    return Bar(
        moment=moment,
        tokens=list(tokens.values()),
        requests=sum(cell.requests for cell in parts),
        total_tokens=sum(tokens.values()),
        amounts=amounts,
        zoom=None if closer is None else view.query_for(span=closer, step=Step.HOUR),
    )


def _parts(view: View, series: Sequence[Series], bar: Bar, top: int) -> Iterator[Part]:
    """Pile up the rectangles of a bar, the first series at the bottom."""
    length = LENGTHS[view.step]
    width = _share(length, view.span.length)
    left = _share(bar.moment - view.span.start, view.span.length)
    upto = 0
    for one, tokens in zip(series, bar.tokens, strict=True):
        if tokens == 0:
            continue
        below, upto = upto, upto + tokens
        high, low = upto * WHOLE // top, below * WHOLE // top
        yield Part(
            colour=one.colour,
            left=_percent(left + width // 10),
            top=_percent(WHOLE - high),
            width=_percent(width * 8 // 10),
            height=_percent(high - low),
        )


def _ticks(view: View) -> Iterator[Tick]:
    length = LENGTHS[view.step]
    count = view.span.length // length
    every = next(step for step in TICK_STEPS if count <= step * TICKS_MAX)
    for place in range(0, count, every):
        moment = view.span.start + place * length
        yield Tick(_percent(_share(moment - view.span.start, view.span.length)), moment)


def _share(part: timedelta, whole: timedelta) -> int:
    return part * WHOLE // whole


def _percent(share: int) -> str:
    return f"{share // 1_000}.{share % 1_000:03d}%"
