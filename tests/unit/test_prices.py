"""Price books and the one cost function."""

from datetime import UTC, datetime

import msgspec
import pytest

from gateway.cli.seeding import SEED_FILES, load_seed
from gateway.prices.model import ModelNotPriced, ModelRates, PriceBook, TokenClass, cost
from gateway.units import Currency, TokenCounts, format_amount

BOOK = PriceBook(
    book_id="idr-1",
    currency=Currency.IDR,
    version=1,
    effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    rates={
        "plain": ModelRates(input_text=300_000_000, output_text=1_500_000_000),
        "fine": ModelRates(
            input_text=300_000_000, output_text=1_500_000_000, input_cached=0, output_reasoning=2_000_000_000
        ),
    },
)


def test_a_rate_is_micro_currency_for_a_million_tokens():
    assert format_amount(cost(BOOK, "plain", TokenCounts(input_text=1_000_000))) == "300"
    assert format_amount(cost(BOOK, "plain", TokenCounts(output_text=1_000_000))) == "1500"
    assert format_amount(cost(BOOK, "plain", TokenCounts(input_text=30, output_text=9))) == "0.0225"


def test_a_class_without_a_rate_costs_what_text_in_its_direction_costs():
    one_of_each = TokenCounts(input_cached=1, input_audio=1, output_reasoning=1, output_audio=1)
    assert cost(BOOK, "plain", one_of_each) == 2 * 300_000_000 + 2 * 1_500_000_000


def test_a_class_with_a_rate_costs_that_even_if_it_is_zero():
    one_of_each = TokenCounts(input_cached=1, input_audio=1, output_reasoning=1, output_audio=1)
    assert cost(BOOK, "fine", one_of_each) == 0 + 300_000_000 + 2_000_000_000 + 1_500_000_000


def test_nothing_costs_nothing():
    assert cost(BOOK, "plain", TokenCounts()) == 0


def test_a_model_without_a_price_is_refused_never_free():
    with pytest.raises(ModelNotPriced, match=r"idr-1 has no price for unheard-of"):
        cost(BOOK, "unheard-of", TokenCounts(input_text=1))


def test_the_rates_that_a_model_has_are_named_by_class():
    assert BOOK.rates["fine"].given() == {
        TokenClass.INPUT_TEXT: 300_000_000,
        TokenClass.OUTPUT_TEXT: 1_500_000_000,
        TokenClass.INPUT_CACHED: 0,
        TokenClass.OUTPUT_REASONING: 2_000_000_000,
    }


def test_every_token_class_has_its_rate_and_its_count():
    assert set(TokenClass) == set(ModelRates.__struct_fields__) == set(TokenCounts.__struct_fields__)


def test_the_digest_follows_the_content_and_not_the_order():
    turned = msgspec.structs.replace(BOOK, rates=dict(reversed(BOOK.rates.items())))
    dearer = msgspec.structs.replace(
        BOOK, rates={**BOOK.rates, "plain": ModelRates(input_text=1, output_text=1)}
    )
    ended = msgspec.structs.replace(BOOK, effective_to=datetime(2027, 1, 1, tzinfo=UTC))
    assert turned.content_sha256 == BOOK.content_sha256 == ended.content_sha256
    assert dearer.content_sha256 != BOOK.content_sha256


def test_the_seeded_rupiah_book_has_the_published_prices():
    books = {book.currency: book for book in load_seed(SEED_FILES).price_books}
    rates = books[Currency.IDR].rates["nusantara-base"]
    assert (rates.input_text, rates.output_text) == (300_000_000, 1_500_000_000)
    assert books[Currency.USD].rates.keys() == books[Currency.IDR].rates.keys()
