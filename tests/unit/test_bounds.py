"""Bounds and estimates, by example."""

import pytest

from gateway.errors import ConfigurationError
from gateway.metering.bounds import (
    InputBound,
    estimate_output_tokens,
    settle_estimate,
    text_bytes,
)
from gateway.units import TokenCounts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("halo", 4),
        ("é", 2),
        ("🇮🇩", 8),
        ("\ud800", 3),
        ("a\ud800é", 6),
        ("", 0),
        (None, 0),
        (True, 0),
        (0, 1),
        (-12, 3),
        (1.5, 3),
        ([], 0),
        ({}, 0),
        ({"role": "user", "content": ["ab", {"n": 10}]}, 4 + 4 + 7 + 2 + 1 + 2),
    ],
)
def test_text_bytes_counts_strings_keys_and_digits(value, expected):
    assert text_bytes(value) == expected


def test_text_bytes_has_no_depth_limit():
    value = "x"
    for _ in range(100_000):
        value = [value]
    assert text_bytes(value) == 1


@pytest.mark.parametrize(
    ("utf8_bytes", "ratio", "overhead", "expected"),
    [
        (0, 2.0, 64, 64),
        (1, 2.0, 0, 1),
        (10, 2.0, 64, 69),
        (27, 2.7, 0, 10),
        (28, 2.7, 0, 11),
        (3, 0.1, 0, 30),
        (10**30, 1.0, 1, 10**30 + 1),
        (10, 3, 0, 4),
    ],
)
def test_the_input_bound_rounds_up_exactly(utf8_bytes, ratio, overhead, expected):
    bound = InputBound.of(bytes_per_token_min=ratio, prompt_overhead_tokens=overhead).tokens(utf8_bytes)
    assert bound == expected


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_that_bounds_nothing_is_refused_by_name(ratio):
    with pytest.raises(ConfigurationError, match="bytes_per_token_min"):
        InputBound.of(bytes_per_token_min=ratio, prompt_overhead_tokens=0)


def test_a_negative_overhead_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="prompt_overhead_tokens"):
        InputBound.of(bytes_per_token_min=1.0, prompt_overhead_tokens=-1)


@pytest.mark.parametrize(("delivered_bytes", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_delivered_text_is_estimated_at_four_bytes_a_token(delivered_bytes, tokens):
    assert estimate_output_tokens(delivered_bytes) == tokens


def test_an_estimate_charges_input_and_what_was_delivered():
    counts = settle_estimate(input_tokens=100, delivered_bytes=400, reserved_tokens=1000)
    assert counts == TokenCounts(input_text=100, output_text=100)


def test_input_gives_way_before_delivered_output():
    counts = settle_estimate(input_tokens=100, delivered_bytes=400, reserved_tokens=150)
    assert counts == TokenCounts(input_text=50, output_text=100)


def test_the_reservation_wins_over_delivered_output():
    counts = settle_estimate(input_tokens=100, delivered_bytes=400, reserved_tokens=60)
    assert counts == TokenCounts(output_text=60)
