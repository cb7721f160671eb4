"""Numbers that people type and read: exact in both languages, and refused where they could mean something else."""

import pytest

from admin.access.model import Language
from admin.portal.amounts import FormRefused, example_of, micro_of, tokens_of, typed
from admin.web.csp import SOURCES, payment_pages, policy
from admin.web.formats import Formats, decimals_of
from gateway.units import Currency
from tests.unit.test_portal_web import JAKARTA

ENGLISH, INDONESIAN = Language.ENGLISH, Language.INDONESIAN
IDR, USD = Currency.IDR, Currency.USD


@pytest.mark.parametrize(
    ("text", "currency", "language", "micro"),
    [
        ("50000", IDR, ENGLISH, 50_000_000_000),
        ("50,000", IDR, ENGLISH, 50_000_000_000),
        ("50.000", IDR, INDONESIAN, 50_000_000_000),
        (" 0 ", IDR, ENGLISH, 0),
        ("25.5", USD, ENGLISH, 25_500_000),
        ("1,000.25", USD, ENGLISH, 1_000_250_000),
        ("1.000,25", USD, INDONESIAN, 1_000_250_000),
        ("", IDR, ENGLISH, None),
    ],
)
def test_an_amount_is_read_as_its_language_writes_it(text, currency, language, micro):
    assert micro_of(text, currency, language, param="amount") == micro


@pytest.mark.parametrize(
    ("text", "currency", "language"),
    [
        ("50.000", IDR, ENGLISH),
        ("50,000", IDR, INDONESIAN),
        ("50.5", IDR, ENGLISH),
        ("5,00", IDR, ENGLISH),
        ("1.234", USD, ENGLISH),
        ("-1", USD, ENGLISH),
        ("1e5", IDR, ENGLISH),
        ("NaN", IDR, ENGLISH),
        ("Infinity", USD, ENGLISH),
        (".", USD, ENGLISH),
        ("9" * 16, IDR, ENGLISH),
        ("9" * 5_000, IDR, ENGLISH),
        ("\u0665", IDR, ENGLISH),
    ],
)
def test_what_could_mean_something_else_is_refused(text, currency, language):
    with pytest.raises(FormRefused) as refused:
        micro_of(text, currency, language, param="amount")
    assert refused.value.param == "amount"


@pytest.mark.parametrize("language", list(Language))
@pytest.mark.parametrize("currency", list(Currency))
@pytest.mark.parametrize("amount", ["50000", "1", "0"])
def test_what_is_filled_in_and_what_is_shown_as_an_example_can_be_read(amount, currency, language):
    assert micro_of(typed(amount, language), currency, language, param="x") == int(amount) * 10**6
    assert micro_of(example_of(currency, language), currency, language, param="x")


def test_tokens_are_read_grouped_or_not():
    assert [tokens_of(text, least=0, param="x") for text in ("0", "1,000", "1.000.000", "")] == [
        0, 1_000, 1_000_000, None,
    ]  # fmt: skip
    with pytest.raises(FormRefused):
        tokens_of("0", least=1, param="x")


@pytest.mark.parametrize(
    "text",
    [
        "1.5",
        "1,50",
        "10,00",
        "1.000,000",
        "1,0000",
        "many",
        "-5",
        "\u0665",
        "0" * 5_000 + "1",
        "1" + "0" * 18,
    ],
)
def test_tokens_that_could_mean_something_else_are_refused(text):
    with pytest.raises(FormRefused):
        tokens_of(text, least=0, param="x")


def test_amounts_are_written_exactly_and_evenly():
    english, indonesian = Formats(ENGLISH, JAKARTA), Formats(INDONESIAN, JAKARTA)
    assert english.minor(999_900, "idr") == "Rp 9,999.00"
    assert english.minor(999_900, "idr", brief=True) == "Rp 9,999"
    assert english.minor(186_005, "idr", brief=True) == "Rp 1,860.05"
    assert indonesian.minor(-186_005, "usd") == "-US$ 1.860,05"
    pico = [300_000_000, 10**12]
    assert decimals_of(pico) == 4
    assert [english.amount(amount, "idr", 4) for amount in pico] == ["Rp 0.0003", "Rp 1.0000"]
    assert english.amount(1, "idr", 4) == "Rp 0.000000000001"
    assert decimals_of([]) == 2


def test_forms_lead_to_stripe_alone_or_to_what_stands_in_for_it():
    assert "form-action 'self' https://checkout.stripe.com https://billing.stripe.com;" in policy(
        SOURCES + payment_pages(None)
    )
    assert "form-action 'self' http://127.0.0.1:12111;" in policy(
        SOURCES + payment_pages("http://127.0.0.1:12111/v1")
    )
    assert all(source.reason for source in payment_pages(None) + payment_pages("http://127.0.0.1:1"))
