"""Units: tokens and money as exact integers, so that nothing is ever rounded by accident.

Money is kept in pico-currency (10^-12 of a rupiah or a dollar): a rate is micro-currency per million
tokens, so ``tokens * rate`` is pico-currency exactly, with no division anywhere.
"""

from enum import StrEnum
from typing import NewType

import msgspec

Tokens = NewType("Tokens", int)
"""A count of model tokens, never negative."""

AmountPico = NewType("AmountPico", int)
"""Money in 10^-12 of the currency's unit."""

RateMicroPerMtok = NewType("RateMicroPerMtok", int)
"""A price: 10^-6 of the currency's unit for 1,000,000 tokens."""

PICO_PER_UNIT = 10**12
MICRO_PER_UNIT = 10**6
PICO_PER_MICRO = 10**6
PICO_DIGITS = 12

TOKENS_MAX = 2**26
"""No single request has more tokens than this; a larger number in a usage block is nonsense."""


class Currency(StrEnum):
    """The currencies that price books exist in; lower case, as Stripe writes them."""

    IDR = "idr"
    USD = "usd"


def format_amount(amount_pico: AmountPico) -> str:
    """Write an amount as an exact decimal in the currency's unit: 22_500_000_000 pico is ``"0.0225"``."""
    sign = "-" if amount_pico < 0 else ""
    units, rest = divmod(abs(amount_pico), PICO_PER_UNIT)
    decimals = f"{rest:0{PICO_DIGITS}d}".rstrip("0")
    return f"{sign}{units}.{decimals}" if decimals else f"{sign}{units}"


def ceil_div(dividend: int, divisor: int) -> int:
    """Divide two integers and round up, exactly."""
    return -(-dividend // divisor)


class TokenCounts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The tokens of one request in disjoint classes: every token is in exactly one of them."""

    input_text: int = 0
    input_cached: int = 0
    input_audio: int = 0
    output_text: int = 0
    output_reasoning: int = 0
    output_audio: int = 0

    @property
    def input_total(self) -> Tokens:
        """All tokens read by the model."""
        return Tokens(self.input_text + self.input_cached + self.input_audio)

    @property
    def output_total(self) -> Tokens:
        """All tokens written by the model."""
        return Tokens(self.output_text + self.output_reasoning + self.output_audio)

    @property
    def total(self) -> Tokens:
        """All tokens, which is what limits count."""
        return Tokens(self.input_total + self.output_total)
