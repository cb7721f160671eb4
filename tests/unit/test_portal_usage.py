"""What the address of a usage page means, how its bars are laid out, and that everything has words."""

from datetime import UTC, datetime, timedelta

import pytest

from admin.access.model import Language
from admin.portal.amounts import FormRefused
from admin.portal.usage.address import Group, Preset, Step, view_of
from admin.portal.usage.chart import chart_of, lines_of, nice_top, row_of, total_of
from admin.portal.usage.requests import CLASSES, charged_of, read_filters
from admin.portal.usage.views import month_as_of
from admin.portal.usage.words import CODES, ENDINGS, FLAWS, LIMITS, SOURCES, refusal_of
from admin.reports.model import CallDetail, Cell, Cells
from admin.web.formats import Formats
from gateway.http.error_table import ERRORS
from gateway.ids import uuid7
from gateway.ledger.model import EndReason, UsageSource
from gateway.metering.usage import Flaw
from gateway.prices.model import ModelRates, TokenClass
from gateway.units import TokenCounts, format_amount
from tests.unit.test_portal_web import ENGLISH, INDONESIAN, JAKARTA

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def view(**query: str):
    return view_of(query.items(), NOW)


def cell(moment, group, tokens, *, currency="idr", amount_pico=0):
    return Cell(
        moment=moment, group=group, currency=currency, requests=1, input_tokens=tokens, output_tokens=0,
        amount_pico=amount_pico,
    )  # fmt: skip


def plain(group):
    return group, None


# ---------------------------------------------------------------- the address


@pytest.mark.parametrize(
    ("preset", "first", "last", "step"),
    [
        ("today", "2026-11-23", "2026-11-23", Step.HOUR),
        ("7d", "2026-11-17", "2026-11-23", Step.DAY),
        ("30d", "2026-10-25", "2026-11-23", Step.DAY),
        ("month", "2026-11-01", "2026-11-30", Step.DAY),
        ("last-month", "2026-10-01", "2026-10-31", Step.DAY),
        (None, "2026-11-01", "2026-11-30", Step.DAY),
    ],
)
def test_a_range_has_a_name_and_a_length_of_its_bars(preset, first, last, step):
    seen = view(range=preset) if preset else view()
    assert (seen.span.first_day, seen.span.last_day, seen.step) == (first, last, step)


def test_a_range_of_days_has_its_last_day_in_it():
    span = view(start="2026-02-27", end="2026-03-01").span
    assert (span.preset, span.start, span.end) == (
        Preset.CUSTOM, datetime(2026, 2, 27, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC),
    )  # fmt: skip


def test_a_range_of_hours_has_its_last_hour_in_it_and_is_shown_by_the_hour():
    seen = view(start="2026-02-27T05", end="2026-02-27T07")
    assert (seen.span.start, seen.span.end) == (
        datetime(2026, 2, 27, 5, tzinfo=UTC), datetime(2026, 2, 27, 8, tzinfo=UTC),
    )  # fmt: skip
    assert (seen.step, seen.steps) == (Step.HOUR, [Step.HOUR])
    assert seen.query == "range=custom&start=2026-02-27T05&end=2026-02-27T07&by=model"


def test_end_users_are_shown_by_whole_days():
    seen = view(start="2026-02-27T05", end="2026-02-28T07", by="user")
    assert (seen.span.first_day, seen.span.last_day, seen.step) == ("2026-02-27", "2026-02-28", Step.DAY)
    assert seen.span.has_whole_days


@pytest.mark.parametrize(
    "query",
    [
        {"range": "7d", "by": "key"}, {"range": "7d", "by": "model", "step": "hour"},
        {"range": "custom", "start": "2026-02-01", "end": "2026-02-03", "by": "status"},
        {"range": "custom", "start": "2026-02-01T05", "end": "2026-02-01T06", "by": "status"},
    ],
)  # fmt: skip
def test_a_view_writes_the_address_that_it_was_read_from(query):
    again = view_of((pair.split("=") for pair in view(**query).query.split("&")), NOW)
    assert again == view(**query)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"range": "ever"}, "range"), ({"by": "colour"}, "by"), ({"step": "week"}, "step"), ({"x": "1"}, "x"),
        ({"range": "custom"}, "start"), ({"start": "2026-03-02"}, "end"),
        ({"start": "2026-03-02", "end": "2026-03-01"}, "end"), ({"start": "2025-01-01", "end": "2026-01-02"}, "end"),
        ({"start": "x", "end": "y"}, "start"), ({"start": "2026-03-01", "end": "9999-12-31"}, "end"),
        ({"start": "2026-03-01T25", "end": "2026-03-02"}, "start"), ({"step": "hour", "by": "user"}, "step"),
        ({"start": "2026-01-01", "end": "2026-02-01", "step": "hour"}, "step"),
        ({"start": "2026-01-01T05", "end": "2026-02-01T05", "step": "day"}, "step"),
    ],
)  # fmt: skip
def test_an_address_that_means_nothing_names_its_field(query, field):
    with pytest.raises(FormRefused) as refused:
        view(**query)
    assert refused.value.param == field


def test_a_value_that_is_there_twice_is_refused():
    with pytest.raises(FormRefused) as refused:
        view_of([("by", "key"), ("by", "model")], NOW)
    assert refused.value.param == "by"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"key": "x"}, "key"), ({"status": "good"}, "status"), ({"before": "soon"}, "before"),
        ({"before": "2026-11-23", "after_id": "req_x"}, "after_id"), ({"model": "a\0"}, "model"), ({"page": "2"}, "page"),
    ],
)  # fmt: skip
def test_a_filter_that_means_nothing_names_its_field(query, field):
    with pytest.raises(FormRefused) as refused:
        read_filters(query.items())
    assert refused.value.param == field


# ---------------------------------------------------------------- the chart


def test_bars_are_piled_in_the_order_of_size_and_end_at_a_round_number():
    seen = view(start="2026-02-01", end="2026-02-10")
    first, second = seen.span.start, seen.span.start + DAY
    cells = Cells(
        [cell(first, "big", 60), cell(first, "small", 20), cell(second, "big", 10)],
        [cell(None, "big", 70), cell(None, "small", 20)],
    )
    chart = chart_of(seen, cells, plain)
    assert [(one.colour, one.label) for one in chart.series] == [("1", "big"), ("2", "small")]
    assert [(bar.moment, bar.tokens, bar.total_tokens) for bar in chart.bars] == [
        (first, [60, 20], 80), (second, [10, 0], 10),
    ]  # fmt: skip
    assert chart.top == 80
    assert [(part.colour, part.left, part.top, part.width, part.height) for part in chart.parts] == [
        ("1", "1.000%", "25.000%", "8.000%", "75.000%"),
        ("2", "1.000%", "0.000%", "8.000%", "25.000%"),
        ("1", "11.000%", "87.500%", "8.000%", "12.500%"),
    ]
    assert chart.bars[0].zoom == "range=custom&start=2026-02-01&end=2026-02-01&by=model&step=hour"


def test_what_has_no_colour_of_its_own_is_together():
    seen = view(start="2026-02-01", end="2026-02-10")
    groups = [f"model {n}" for n in range(6)]
    parts = [cell(seen.span.start, group, 10) for group in groups] + [cell(seen.span.start, None, 5)]
    sums = [cell(None, group, 10) for group in [*groups, "model 6"]]
    chart = chart_of(seen, Cells(parts, sums), plain)
    assert [one.colour for one in chart.series] == ["1", "2", "3", "4", "5", "6", "rest"]
    assert chart.bars[0].tokens == [10, 10, 10, 10, 10, 10, 5]
    lines = lines_of(Cells(parts, sums), chart.series, plain)
    assert [(line.label, line.colour) for line in lines[-2:]] == [("model 5", "6"), ("model 6", "rest")]


def test_an_hour_is_not_looked_at_closer():
    seen = view(range="today")
    chart = chart_of(seen, Cells([cell(seen.span.start, "x", 1)], [cell(None, "x", 1)]), plain)
    assert (chart.bars[0].zoom, chart.step_s) == (None, 3600)


def test_an_empty_chart_has_no_highest_bar():
    chart = chart_of(view(), Cells([], []), plain)
    assert (chart.highest, chart.bars, chart.top) == (None, [], 2)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (3, 4), (7, 8), (9, 10), (11, 20), (8_001, 10_000), (41_000, 60_000)]
)
def test_an_axis_ends_at_a_round_number_with_a_round_middle(most, top):
    assert nice_top(most) == top


@pytest.mark.parametrize("days", [1, 2, 7, 28, 29, 30, 31, 92, 366])
def test_an_axis_never_has_more_than_eight_marks(days):
    end = datetime(2026, 1, 1, tzinfo=UTC) + (days - 1) * DAY
    chart = chart_of(view(start="2026-01-01", end=f"{end:%Y-%m-%d}"), Cells([], []), plain)
    assert 1 <= len(chart.ticks) <= 8


def test_a_sum_is_exact_and_of_one_currency():
    amounts = [100_000_000_000, 200_000_000_000, 1]
    total = total_of([cell(None, "x", 5, amount_pico=amount) for amount in amounts])
    assert total is not None
    assert (total.requests, total.total_tokens, total.amount) == (3, 15, "0.300000000001")
    assert total_of([cell(None, "x", 1), cell(None, "x", 1, currency="usd")]) is None
    assert total_of([]) is None
    assert row_of(cell(None, "x", 5, amount_pico=1)).amount == "0.000000000001"


# ---------------------------------------------------------------- the month


def test_a_month_says_its_pace_and_when_its_limit_is_reached():
    month = month_as_of(datetime(2026, 11, 11, tzinfo=UTC), used=5_000, held=0, limit=10_000, today_used=7)
    assert (month.pace, month.forecast, month.elapsed_percent, month.days_left) == (500, 15_000, 33, 21)
    assert month.full_at == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(("used", "limit"), [(0, 10_000), (3_000, 10_000), (10_000, 10_000), (5_000, None)])
def test_a_month_that_will_not_reach_its_limit_says_no_day(used, limit):
    month = month_as_of(datetime(2026, 11, 11, tzinfo=UTC), used=used, held=0, limit=limit, today_used=0)
    assert month.full_at is None


# ---------------------------------------------------------------- words


def test_everything_that_is_counted_has_words():
    assert set(ENDINGS) == set(EndReason)
    assert set(SOURCES) == set(UsageSource)
    assert set(FLAWS) == set(Flaw)
    assert set(CLASSES) == set(TokenClass)
    assert {code for code, _ in LIMITS.values()} | set(CODES) <= set(ERRORS)


def test_a_limit_is_said_with_the_answer_that_it_gives():
    said = refusal_of("tokens_per_minute", 3)
    assert (said.status, said.code, said.limit, said.said.name) == (
        429, "rate_limit_exceeded", "tokens_per_minute", "Tokens a minute",
    )  # fmt: skip
    said = refusal_of("unknown_parameter", 1)
    assert (said.status, said.limit, said.said.name) == (400, None, "Request was not valid")


def test_the_parts_of_a_charge_sum_to_its_amount():
    counts = TokenCounts(input_text=100, input_cached=20, output_text=7, output_reasoning=3)
    rates = ModelRates(input_text=300_000_000, output_text=1_500_000_000, input_cached=30_000_000)
    call = CallDetail(
        request_id=uuid7(), entry_id=uuid7(), key_id=None, model="m", endpoint="responses", upstream=None,
        end_user=None, plan_id="free", occurred_at=NOW, counts=counts, currency="idr",
        book_id="idr-1", amount_pico=0, billable=False, usage_source="upstream", usage_flaw=None,
        end_reason="completed", raw_usage=None, duration_ms=1, first_byte_ms=None,
    )  # fmt: skip
    charged = charged_of(call, rates, str)
    assert [(line.name, line.tokens, line.rate, line.amount) for line in charged] == [
        ("Input", 100, "300", "0.03"), ("Input, from the cache", 20, "30", "0.0006"),
        ("Output", 7, "1500", "0.0105"), ("Output, reasoning", 3, "1500", "0.0045"),
    ]  # fmt: skip
    assert format_amount(30_000_000_000 + 600_000_000 + 10_500_000_000 + 4_500_000_000) == "0.0456"


def test_an_axis_is_labelled_as_the_reader_expects():
    assert (ENGLISH.compact(1_500_000), INDONESIAN.compact(20_000)) == ("1.5M", "20\xa0rb")
    assert (ENGLISH.share(1, 3), INDONESIAN.share(2, 3), ENGLISH.share(0, 0)) == ("33.3%", "66,7%", "-")
    assert Formats(Language.ENGLISH, JAKARTA).here(datetime(2026, 11, 23, tzinfo=UTC)) == "07:00 WIB"


def test_a_key_and_a_status_are_chosen_in_the_address():
    key = uuid7()
    filters, before = read_filters([("key", str(key)), ("status", "completed"), ("model", "")])
    assert (filters.key, filters.status, filters.model, before) == (str(key), "completed", None, None)
    assert Group("key") is Group.KEY
