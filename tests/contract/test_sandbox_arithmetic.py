"""The sandbox's pure parts: form decoding against the SDK's encoder, rating, shares and periods."""

from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode

from billing.sandbox.form import decode_form
from billing.sandbox.periods import boundary_after, natural_start
from billing.sandbox.rating import rate, share_of
from billing.sandbox.refusals import ParameterRefusal

MONTHLY = {"interval": "month", "interval_count": 1}
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
LEAVES = st.text(min_size=1, max_size=12)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def unix(year, month, day, hour=0):
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_a_form_is_read_back_as_the_sdk_wrote_it(parameters):
    assert decode_form(urlencode(list(_api_encode(parameters)))) == parameters


@pytest.mark.parametrize("form", ["a=1&a[b]=2", "a[b]=1&a[b][c]=2", "a" + "[b]" * 9 + "=1"])
def test_a_form_that_contradicts_itself_or_nests_too_deep_is_refused(form):
    with pytest.raises(ParameterRefusal):
        decode_form(form)


@given(st.integers(0, 10**15), st.decimals("0", "1000", places=6))
def test_a_unit_amount_is_exact_until_its_one_rounding(quantity, unit):
    price = {"billing_scheme": "per_unit", "unit_amount_decimal": str(unit)}
    [row] = rate(price, [], Decimal(quantity))
    assert abs(row.amount - quantity * unit) <= Decimal("0.5")


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 10**6))
def test_the_parts_of_a_period_cost_what_the_whole_does_within_one_minor_unit(amount, whole_s, part_s):
    part_s = min(part_s, whole_s)
    split = share_of(amount, part_s, whole_s) + share_of(amount, whole_s - part_s, whole_s)
    assert split - amount in {0, 1}
    assert share_of(amount, whole_s, whole_s) == amount


@given(st.integers(0, 10**7))
def test_tiers_hold_the_whole_quantity(quantity):
    price = {"billing_scheme": "tiered"}
    bounds = [10_000, 25_000, None]
    tiers = [{"up_to": bound, "unit_amount_decimal": "1", "flat_amount_decimal": None} for bound in bounds]
    rows = rate(price, tiers, Decimal(quantity))
    assert sum(row.quantity for row in rows) == quantity == sum(row.amount for row in rows)


def test_a_period_anchored_on_the_31st_ends_on_the_last_day_of_short_months():
    anchor = unix(2027, 1, 31)
    ends = [unix(2027, 2, 28), unix(2027, 3, 31), unix(2027, 4, 30)]
    moment = anchor
    for end in ends:
        moment = boundary_after(anchor, MONTHLY, moment)
        assert moment == end
    assert natural_start(anchor, MONTHLY, ends[1]) == ends[0]


def test_a_period_before_its_anchor_ends_at_the_anchor_and_is_measured_by_a_whole_month():
    anchor = unix(2026, 12, 1)
    assert boundary_after(anchor, MONTHLY, unix(2026, 11, 10)) == anchor
    assert natural_start(anchor, MONTHLY, anchor) == unix(2026, 11, 1)
