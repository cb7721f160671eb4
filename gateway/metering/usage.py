"""Turns the usage block of an upstream into token counts, or says why it cannot.

The counts of a block contain one another (cached and audio tokens are part of the prompt, reasoning and audio
tokens part of the completion); ours are disjoint, so that each token is priced once. Totals are trusted to the
token and details are fitted into them: explicit zero is zero, missing is missing, and nonsense is missing too.
A count is a JSON integer: ``12.0`` is a fraction, for a meter that emits floats does not count.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from gateway.units import TOKENS_MAX, TokenCounts

MISSING: Final = msgspec.UNSET
"""Stands for a block that was not there, as opposed to ``null``."""


class Flaw(StrEnum):
    """What is wrong with a usage block. With counts beside it, the flaw is in the details or in the sum."""

    MISSING = "missing"
    NULL = "null"
    NOT_AN_OBJECT = "not_an_object"
    NOT_A_NUMBER = "not_a_number"
    NEGATIVE = "negative"
    FRACTIONAL = "fractional"
    TOO_LARGE = "too_large"
    INCONSISTENT = "inconsistent"
    DETAILS_MISSING = "details_missing"


class UsageReading(msgspec.Struct, frozen=True):
    """What a usage block says: ``counts`` is None when it says nothing usable, and then ``flaw`` is set.

    A flaw beside counts is for the metric: the totals hold, only their division into classes may not.
    ``details_missing`` is the mildest and is reported only when nothing else is wrong; many self-hosted models
    never send details. ``raw`` is the block as it came, for the ledger entry.
    """

    counts: TokenCounts | None
    flaw: Flaw | None
    raw: object


class _Dialect(NamedTuple):
    """Names of the fields that differ between the wire dialects."""

    input: str
    input_details: str
    output: str
    output_details: str


_CHAT = _Dialect("prompt_tokens", "prompt_tokens_details", "completion_tokens", "completion_tokens_details")
_RESPONSES = _Dialect("input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details")


def read_chat_usage(block: object, *, output_expected: bool) -> UsageReading:
    """Read the usage of Chat Completions and Embeddings; ``block`` is decoded JSON or ``MISSING``.

    Embeddings have no completion tokens and no details: with ``output_expected=False`` their absence is no flaw.
    """
    return _read(block, _CHAT, output_expected=output_expected)


def read_responses_usage(block: object) -> UsageReading:
    """Read the usage of the Responses API; ``block`` is decoded JSON or ``MISSING``."""
    return _read(block, _RESPONSES, output_expected=True)


def _read(block: object, names: _Dialect, *, output_expected: bool) -> UsageReading:
    if not isinstance(block, dict):
        return UsageReading(None, _absence(block) or Flaw.NOT_AN_OBJECT, block)
    input_total = _count(block.get(names.input, MISSING))
    output_total = _count(block.get(names.output, MISSING if output_expected else 0))
    if isinstance(input_total, Flaw):
        return UsageReading(None, input_total, block)
    if isinstance(output_total, Flaw):
        return UsageReading(None, output_total, block)

    cached, input_audio, input_flaw = _divide(input_total, block.get(names.input_details), "cached_tokens")
    reasoning, output_audio, output_flaw = _divide(
        output_total, block.get(names.output_details), "reasoning_tokens"
    )
    total = input_total + output_total
    sum_flaw = Flaw.INCONSISTENT if block.get("total_tokens", total) != total else None
    flaw = _gravest(input_flaw, output_flaw, sum_flaw)
    if flaw is Flaw.DETAILS_MISSING and not output_expected:
        flaw = None
    counts = TokenCounts(
        input_text=input_total - cached - input_audio,
        input_cached=cached,
        input_audio=input_audio,
        output_text=output_total - reasoning - output_audio,
        output_reasoning=reasoning,
        output_audio=output_audio,
    )
    return UsageReading(counts, flaw, block)


def _divide(total: int, details: object, first_name: str) -> tuple[int, int, Flaw | None]:
    """Return two disjoint parts of a total, the field ``first_name`` and audio; the rest of it is text.

    A field that is absent or nonsense is 0. Parts that claim more than the total are cut to fit: audio gives way
    first, since cached tokens are often audio too and would otherwise be counted twice.
    """
    if not isinstance(details, dict):
        if _absence(details) is None:
            return 0, 0, Flaw.NOT_AN_OBJECT
        # Zero tokens need no division.
        return 0, 0, Flaw.DETAILS_MISSING if total else None
    flaw = None
    first = _count(details.get(first_name, 0))
    audio = _count(details.get("audio_tokens", 0))
    if isinstance(audio, Flaw):
        flaw, audio = audio, 0
    if isinstance(first, Flaw):
        flaw, first = first, 0
    if first + audio > total:
        first = min(first, total)
        audio = min(audio, total - first)
        flaw = flaw or Flaw.INCONSISTENT
    return first, audio, flaw


def _count(value: object) -> int | Flaw:
    """Return the value if it is a count of tokens, or what is wrong with it."""
    if type(value) is int:  # not isinstance: a bool is an int and is not a count
        if 0 <= value <= TOKENS_MAX:
            return value
        return Flaw.NEGATIVE if value < 0 else Flaw.TOO_LARGE
    if isinstance(value, float):
        return Flaw.FRACTIONAL
    return _absence(value) or Flaw.NOT_A_NUMBER


def _absence(value: object) -> Flaw | None:
    """Tell how a value is not there; None when it is."""
    if value is None:
        return Flaw.NULL
    return Flaw.MISSING if value is MISSING else None


def _gravest(*flaws: Flaw | None) -> Flaw | None:
    """Return the first real flaw, else missing details if there were any."""
    mildest = None
    for flaw in flaws:
        if flaw is Flaw.DETAILS_MISSING:
            mildest = flaw
        elif flaw is not None:
            return flaw
    return mildest
