"""Numbers that people type: tokens and money, read exactly or refused, never guessed."""

import re
from decimal import Decimal

from babel.numbers import NumberFormatError, format_decimal, parse_decimal

from admin.access.model import AccessError, Language
from admin.web.formats import locale_of
from gateway.plans.model import LIMIT_MAX
from gateway.units import Currency

LENGTH_MAX = 20
WHOLE = re.compile(r"[0-9]+|[0-9]{1,3}([., ])[0-9]{3}(\1[0-9]{3})*")
"""A whole number, grouped by thousands or not at all: one and a half is not fifteen."""
SIGNS = re.compile(r"[., ]")
DIGITS_AND_SIGNS = frozenset("0123456789.,")
DECIMALS = {Currency.IDR: 0, Currency.USD: 2}
"""Decimals that people write: nobody pays a part of a rupiah."""


class FormRefused(AccessError):
    """Something in the form cannot be right."""

    code = "form_refused"


def tokens_of(text: str, *, least: int, param: str) -> int | None:
    """Read a number of tokens, grouped or not; ``None`` for nothing, ``FormRefused`` for what is no such number."""
    written = text.strip()
    if not written:
        return None
    is_number = len(written) <= LENGTH_MAX and WHOLE.fullmatch(written) is not None
    if not is_number or not least <= (tokens := int(SIGNS.sub("", written))) <= LIMIT_MAX:
        raise FormRefused("Write the cap as a whole number of tokens, or leave it empty.", param=param)
    return tokens


def micro_of(text: str, currency: Currency, language: Language, *, param: str) -> int | None:
    """Read an amount as the visitor's language writes it, in micro-currency; ``None`` for nothing.

    ``FormRefused`` where it could mean something else: ``50.000`` is fifty thousand in one language and fifty in the
    other, and fifty is not written with three decimals.
    """
    written = text.strip()
    if not written:
        return None
    value = _decimal(written, language)
    micro = None if value is None or _decimals(value) > DECIMALS[currency] else value.scaleb(6)
    if micro is None or micro > LIMIT_MAX:
        example = example_of(currency, language)
        if currency is Currency.IDR:
            raise FormRefused(
                "Write the amount in whole rupiah, like %(example)s.", param=param, example=example
            )
        raise FormRefused("Write the amount in dollars, like %(example)s.", param=param, example=example)
    return int(micro)


def _decimal(written: str, language: Language) -> Decimal | None:
    if len(written) > LENGTH_MAX or not set(written) <= DIGITS_AND_SIGNS:
        return None
    try:
        return parse_decimal(written, locale=locale_of(language), strict=True)
    except NumberFormatError:
        return None


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def example_of(currency: Currency, language: Language) -> str:
    """Write an amount as it may be typed."""
    if currency is Currency.USD:
        return "25,50" if language is Language.INDONESIAN else "25.50"
    return "50.000" if language is Language.INDONESIAN else "50,000"


def typed(amount: str, language: Language) -> str:
    """Write an exact amount so that it can stand in a form and be read again."""
    return str(
        format_decimal(Decimal(amount), format="0.##", locale=locale_of(language), group_separator=False)
    )
