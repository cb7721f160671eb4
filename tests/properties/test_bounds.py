"""Bounds are bounds, for any text and any size."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.bounds import InputBound, estimate_output_tokens, settle_estimate, text_bytes

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), any_text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)),
    max_leaves=20,
)


def counted_slowly(value) -> int:
    if isinstance(value, str):
        return sum(len(letter.encode("utf-8", "surrogatepass")) for letter in value)
    if isinstance(value, list):
        return sum(counted_slowly(item) for item in value)
    if isinstance(value, dict):
        return sum(counted_slowly(key) + counted_slowly(item) for key, item in value.items())
    return 0 if value is None or isinstance(value, bool) else len(str(value))


@given(json_values)
def test_text_bytes_counts_every_string_and_number_once(value):
    assert text_bytes(value) == counted_slowly(value)


@given(st.integers(0, 10**24), st.integers(1, 10_000), st.integers(0, 10**6))
def test_the_bound_is_the_exact_ceiling_of_the_written_ratio(utf8_bytes, milli_ratio, overhead):
    bound = InputBound.of(bytes_per_token_min=milli_ratio / 1000, prompt_overhead_tokens=overhead)
    exact = utf8_bytes / Fraction(milli_ratio, 1000)
    assert exact <= bound.tokens(utf8_bytes) - overhead < exact + 1


@given(any_text)
def test_one_byte_a_token_bounds_any_text(text):
    bound = InputBound.of(bytes_per_token_min=1.0, prompt_overhead_tokens=0)
    assert bound.tokens(text_bytes(text)) == len(text.encode("utf-8", "surrogatepass"))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_estimate_is_within_the_reservation_and_covers_what_was_delivered(
    input_tokens, delivered, reserved
):
    counts = settle_estimate(input_tokens=input_tokens, delivered_bytes=delivered, reserved_tokens=reserved)
    output_tokens = estimate_output_tokens(delivered)
    assert counts.total == min(input_tokens + output_tokens, reserved)
    assert counts.output_total == min(output_tokens, reserved)
    assert counts.input_total >= 0
