"""What a new price book would change, and for whom."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from gateway.errors import NusagateError
from gateway.prices.model import ModelRates, PriceBook, TokenClass
from gateway.units import Currency


class ModelsNotPriced(NusagateError):
    """The price book lacks models of the catalogue, and accounts pay in its currency."""

    code = "models_not_priced"


class RateChange(msgspec.Struct, frozen=True, kw_only=True):
    """One rate before and after, in micro-currency for 1,000,000 tokens; ``None`` where the model is not priced."""

    model: str
    token_class: TokenClass
    before: int | None
    after: int | None


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What the last 30 days of one model cost, and what they would have cost (exact decimals of the currency)."""

    model: str
    accounts: int
    requests: int
    amount_before: str
    amount_after: str


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A draft beside the book that holds now."""

    book_id: str
    currency: Currency
    version: int
    effective_from: datetime
    follows: str | None
    unpriced_models: tuple[str, ...]
    """Models of the catalogue that it does not price; it cannot be published while accounts pay in its currency."""
    accounts_in_currency: bool
    changes: tuple[RateChange, ...]
    impact: tuple[Impact, ...]


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What repricing comes to for one account, as exact decimals of the currency.

    ``beyond_bill`` is what it gives back beyond what the current month costs so far: a bill is never below zero.
    """

    account_id: UUID
    entries: int
    amount_before: str
    amount_after: str
    difference: str
    beyond_bill: str


class Recalculation(msgspec.Struct, frozen=True, kw_only=True):
    """A month repriced: nothing is written unless ``applied``."""

    applied: bool
    price_book: str
    period: str
    currency: Currency
    corrections: tuple[Correction, ...]


def rate_changes(before: PriceBook | None, after: PriceBook) -> tuple[RateChange, ...]:
    """List the rates that differ; a class without a rate of its own costs what text in its direction costs."""
    old: Mapping[str, ModelRates] = before.rates if before else {}
    changes = [
        RateChange(
            model=model,
            token_class=token_class,
            before=effective_rate(old.get(model), token_class),
            after=effective_rate(after.rates.get(model), token_class),
        )
        for model in sorted({*old, *after.rates})
        for token_class in TokenClass
    ]
    return tuple(change for change in changes if change.before != change.after)


def effective_rate(rates: ModelRates | None, token_class: TokenClass) -> int | None:
    """Return what a class costs, ``None`` where the model is not priced."""
    if rates is None:
        return None
    own: int | None = getattr(rates, token_class)
    if own is not None:
        return own
    return rates.input_text if token_class.startswith("input") else rates.output_text


def unpriced(book: PriceBook, models: Collection[str]) -> tuple[str, ...]:
    """Name the models that a book has no price for."""
    return tuple(sorted(set(models) - set(book.rates)))
