"""Which models an account can use: what the catalogue serves and the price book of the account's currency prices."""

import os
from pathlib import Path

from admin.web.parts import Parts
from gateway.errors import ConfigurationError
from gateway.prices import service as prices
from gateway.prices.model import ModelRates
from gateway.units import Currency
from gateway.upstream.catalogue import load_catalogue


async def models_offered(parts: Parts, currency: Currency) -> list[str]:
    """Return the names of the models, those that are served first in the catalogue's order.

    Where the catalogue cannot be read here, because it belongs to the gateway's machine, the price book decides.
    """
    books = await prices.books_at(parts.db, parts.door.clock.now(), currency)
    priced = [model for book in books for model in book.rates]
    served = _served(parts.settings.base.config_path)
    return [model for model in served if model in priced] or priced or ["model"]


async def rates_offered(parts: Parts, currency: Currency) -> list[tuple[str, ModelRates]]:
    """Return the models that are offered with what a million of their tokens costs now, in micro-currency."""
    books = await prices.books_at(parts.db, parts.door.clock.now(), currency)
    rates = {model: found for book in books for model, found in book.rates.items()}
    return [(model, rates[model]) for model in await models_offered(parts, currency) if model in rates]


def _served(path: Path) -> list[str]:
    try:
        return list(load_catalogue(path, os.environ).models)
    except ConfigurationError:
        return []
