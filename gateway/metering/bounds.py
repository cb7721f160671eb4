"""How many tokens a text can be at most, and how many it probably is, told from its bytes alone.

A bound is reserved before the upstream is called; an estimate is charged when the upstream did not say what it
used. Both are integer arithmetic, exact for any size.
"""

import math
from fractions import Fraction
from typing import Self

import msgspec

from gateway.errors import ConfigurationError
from gateway.units import TokenCounts, Tokens, ceil_div

ESTIMATED_BYTES_PER_TOKEN = 4
"""Rule of thumb for text whose tokens nobody counted; only estimates use it, never a bound."""


def text_bytes(value: object) -> int:
    """Count the UTF-8 bytes of all strings in a decoded JSON value, keys included, and the digits of its numbers.

    ``true``, ``false``, ``null`` and punctuation count nothing. Half a surrogate pair, which JSON can spell but
    UTF-8 cannot, counts as the 3 bytes it would take. Depth is limited by memory only.
    """
    count_bytes = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            count_bytes += len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif type(item) in (int, float):  # not isinstance: a bool is an int
            count_bytes += len(repr(item))
    return count_bytes


class InputBound(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The input bound of one model, made once from its settings.

    ``numerator / denominator`` is the least number of bytes a token stands for.
    """

    numerator: int
    denominator: int
    prompt_overhead_tokens: int

    @classmethod
    def of(cls, *, bytes_per_token_min: float, prompt_overhead_tokens: int) -> Self:
        """Make the bound from a model's settings; raises ``ConfigurationError`` naming the wrong one.

        The ratio is the decimal that the operator wrote: 2.7 is 27/10, not the nearest binary fraction.
        """
        if not (math.isfinite(bytes_per_token_min) and bytes_per_token_min > 0):
            raise ConfigurationError(f"bytes_per_token_min must be above 0, not {bytes_per_token_min}")
        if prompt_overhead_tokens < 0:
            raise ConfigurationError(
                f"prompt_overhead_tokens must be 0 or more, not {prompt_overhead_tokens}"
            )
        ratio = Fraction(repr(bytes_per_token_min))
        return cls(
            numerator=ratio.numerator,
            denominator=ratio.denominator,
            prompt_overhead_tokens=prompt_overhead_tokens,
        )

    def tokens(self, utf8_bytes: int) -> Tokens:
        """Return how many tokens a prompt of this many bytes is at most."""
        return Tokens(ceil_div(utf8_bytes * self.denominator, self.numerator) + self.prompt_overhead_tokens)


def estimate_output_tokens(
    delivered_utf8_bytes: int, *, bytes_per_token: int = ESTIMATED_BYTES_PER_TOKEN
) -> Tokens:
    """Guess the tokens of delivered text: 0 for no text, at least 1 for any."""
    return Tokens(ceil_div(delivered_utf8_bytes, bytes_per_token))


def settle_estimate(*, input_tokens: int, delivered_bytes: int, reserved_tokens: int) -> TokenCounts:
    """Return what to charge when the upstream did not report usage: the input, and the output delivered.

    Where the two do not fit into the reservation, input gives way first: it is a bound and mostly too high, while
    the output was seen to arrive, so no less than that is charged. The reservation wins over both: it is what
    the upstream was held to and what the limit made room for, and bytes per token are only a guess.
    """
    output_tokens = estimate_output_tokens(delivered_bytes)
    return fit_estimate(input_tokens, output_tokens, reserved_tokens=reserved_tokens)


def fit_estimate(input_tokens: int, output_tokens: int, *, reserved_tokens: int) -> TokenCounts:
    """Cut an estimate down to the reservation, input before output; see ``settle_estimate``."""
    output_tokens = min(output_tokens, reserved_tokens)
    return TokenCounts(
        input_text=min(input_tokens, reserved_tokens - output_tokens), output_text=output_tokens
    )
