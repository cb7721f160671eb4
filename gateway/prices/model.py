"""Price books and the one cost function: tokens times rate, exact, with nothing rounded."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from gateway.errors import NusagateError
from gateway.units import AmountPico, Currency, RateMicroPerMtok, TokenCounts

RATE_MAX = 60_000_000_000
"""No rate is higher, so that the amount of the largest possible request stays inside a 64-bit integer."""

Rate = Annotated[int, msgspec.Meta(ge=0, le=RATE_MAX)]
"""A price in micro-currency for 1,000,000 tokens (``RateMicroPerMtok``), checked."""


class TokenClass(StrEnum):
    """The kinds of token that can have a price of their own."""

    INPUT_TEXT = "input_text"
    INPUT_CACHED = "input_cached"
    INPUT_AUDIO = "input_audio"
    OUTPUT_TEXT = "output_text"
    OUTPUT_REASONING = "output_reasoning"
    OUTPUT_AUDIO = "output_audio"


class ModelRates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rates of one model; a class without a rate of its own costs what text in its direction costs."""

    input_text: Rate
    output_text: Rate
    input_cached: Rate | None = None
    input_audio: Rate | None = None
    output_reasoning: Rate | None = None
    output_audio: Rate | None = None

    def given(self) -> dict[TokenClass, RateMicroPerMtok]:
        """Return the rates that were set, by class."""
        rates = {token_class: getattr(self, token_class) for token_class in TokenClass}
        return {token_class: rate for token_class, rate in rates.items() if rate is not None}


class PriceBook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every model costs in one currency from ``effective_from`` until another book follows."""

    book_id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    currency: Currency
    version: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    effective_from: Annotated[datetime, msgspec.Meta(tz=True)]
    effective_to: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    rates: Annotated[
        Mapping[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], ModelRates],
        msgspec.Meta(min_length=1, max_length=10_000),
    ] = msgspec.field(name="models")

    @property
    def content_sha256(self) -> str:
        """The digest of what the book says; its end is not part of it, because a following book sets that."""
        content = {
            "book_id": self.book_id,
            "currency": self.currency,
            "version": self.version,
            "effective_from": self.effective_from.astimezone(UTC),
            "models": self.rates,
        }
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


class ModelNotPriced(NusagateError):
    """The model has no price in this currency."""

    code = "model_not_priced"


class BookNotFound(NusagateError):
    """No published price book has this id."""

    code = "price_book_not_found"


class BookConflict(NusagateError):
    """The price book contradicts one that is published; published prices never change."""

    code = "price_book_conflict"


def cost(book: PriceBook, model: str, counts: TokenCounts) -> AmountPico:
    """Price a request exactly, in pico-currency; ``ModelNotPriced`` where the book does not know the model."""
    rates = book.rates.get(model)
    if rates is None:
        raise ModelNotPriced(f"The price book {book.book_id} has no price for {model}.")
    return AmountPico(
        counts.input_text * rates.input_text
        + counts.input_cached * _or(rates.input_cached, rates.input_text)
        + counts.input_audio * _or(rates.input_audio, rates.input_text)
        + counts.output_text * rates.output_text
        + counts.output_reasoning * _or(rates.output_reasoning, rates.output_text)
        + counts.output_audio * _or(rates.output_audio, rates.output_text)
    )


def _or(own: int | None, text: int) -> int:
    """Choose a class's own rate where it has one; 0 is a rate."""
    return text if own is None else own
