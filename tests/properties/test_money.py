"""Money is exact: a cost is a sum of products, splitting a request changes nothing, and writing it loses nothing."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.prices.model import RATE_MAX, ModelRates, PriceBook, TokenClass, cost
from gateway.units import PICO_PER_UNIT, TOKENS_MAX, AmountPico, Currency, TokenCounts, format_amount

BIGINT_MAX = 2**63 - 1

rates = st.integers(0, RATE_MAX)
tokens = st.integers(0, TOKENS_MAX)
counts = st.builds(TokenCounts, **dict.fromkeys(TokenCounts.__struct_fields__, tokens))
model_rates = st.builds(
    ModelRates,
    input_text=rates,
    output_text=rates,
    **dict.fromkeys(("input_cached", "input_audio", "output_reasoning", "output_audio"), st.none() | rates),
)


def book_of(model: ModelRates) -> PriceBook:
    return PriceBook(
        book_id="b-1",
        currency=Currency.IDR,
        version=1,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        rates={"m": model},
    )


def add(one: TokenCounts, other: TokenCounts) -> TokenCounts:
    return TokenCounts(
        **{name: getattr(one, name) + getattr(other, name) for name in TokenCounts.__struct_fields__}
    )


@given(model_rates, counts)
def test_a_cost_is_the_sum_of_tokens_times_rates(model, used):
    expected = 0
    for token_class in TokenClass:
        rate = getattr(model, token_class)
        if rate is None:
            rate = model.input_text if token_class.startswith("input") else model.output_text
        expected += getattr(used, token_class) * rate
    assert cost(book_of(model), "m", used) == expected


@given(model_rates, counts, counts)
def test_two_requests_cost_what_one_of_both_would(model, one, other):
    book = book_of(model)
    assert cost(book, "m", one) + cost(book, "m", other) == cost(book, "m", add(one, other))


def test_the_largest_request_at_the_highest_rate_fits_a_bigint():
    dearest = ModelRates(input_text=RATE_MAX, output_text=RATE_MAX)
    assert (
        cost(book_of(dearest), "m", TokenCounts(input_text=TOKENS_MAX, output_text=TOKENS_MAX)) <= BIGINT_MAX
    )


@given(st.integers(-(10**38), 10**38))
def test_writing_an_amount_loses_nothing(amount_pico):
    text = format_amount(AmountPico(amount_pico))
    sign, digits, exponent = Decimal(text).as_tuple()
    written = int("".join(map(str, digits))) * 10 ** (12 + int(exponent))
    assert (-written if sign else written) == amount_pico
    assert "." not in text or not text.endswith("0")


@given(st.integers(0, 10**18))
def test_a_whole_amount_is_written_without_decimals(units):
    assert format_amount(AmountPico(units * PICO_PER_UNIT)) == str(units)
