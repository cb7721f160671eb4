"""What the pages of the documentation say that is not theirs to decide: rows of the database, tables of the code."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from admin.portal.offers import models_offered
from admin.web.i18n import mark
from admin.web.parts import Parts
from gateway.http.error_table import ERRORS, ErrorRow
from gateway.http.openapi import openapi_document
from gateway.ledger.model import EndReason
from gateway.metering.charge import Delivery, charge
from gateway.metering.usage import Flaw, UsageReading
from gateway.plans import service as plans
from gateway.plans.model import Plan
from gateway.prices import service as prices
from gateway.prices.model import ModelRates, PriceBook, TokenClass
from gateway.proxy.exchanges import SMALL_REST_TOKENS
from gateway.runtime.settings import Limits
from gateway.units import Currency, TokenCounts, Tokens

MEANINGS: Mapping[EndReason, str] = MappingProxyType(
    {
        EndReason.COMPLETED: mark("The answer is whole."),
        EndReason.INCOMPLETE: mark("The answer was cut at its token limit."),
        EndReason.UPSTREAM_ERROR: mark("The model refused, failed, or sent something unreadable."),
        EndReason.UPSTREAM_RESET: mark("The connection to the model broke."),
        EndReason.UPSTREAM_TIMEOUT: mark("The model was silent too long, or the request took too long."),
        EndReason.CLIENT_GONE_DRAINED: mark("You left; the answer was read to its end."),
        EndReason.CLIENT_GONE_CANCELLED: mark("You left; the model was stopped."),
        EndReason.DRAINED_AT_SHUTDOWN: mark("The gateway was stopped and the answer did not end in time."),
        EndReason.GATEWAY_CRASH: mark("The gateway failed during the request."),
    }
)
SOURCES = MappingProxyType(
    {
        "upstream": mark("the model's own count, to the token"),
        "partial": mark("the model's last count before the cut"),
        "estimated": mark("our estimate, marked as one"),
        None: mark("nothing"),
    }
)
CLASSES = MappingProxyType(
    {
        TokenClass.INPUT_TEXT: mark("input"),
        TokenClass.INPUT_CACHED: mark("input, cached"),
        TokenClass.INPUT_AUDIO: mark("input, audio"),
        TokenClass.OUTPUT_TEXT: mark("output"),
        TokenClass.OUTPUT_REASONING: mark("output, reasoning"),
        TokenClass.OUTPUT_AUDIO: mark("output, audio"),
    }
)
SAID = UsageReading(counts=TokenCounts(input_text=6, output_text=2), flaw=None, raw=None)
UNSAID = UsageReading(counts=None, flaw=Flaw.MISSING, raw=None)
ROOM = Tokens(1_000)


class Ending(msgspec.Struct, frozen=True):
    """What an ending costs, as the code that charges answers for three cases; sentences for the catalogue."""

    reason: EndReason
    meaning: str
    with_usage: str
    with_text: str
    with_nothing: str


class Price(msgspec.Struct, frozen=True):
    """The price of one kind of token of one model, in micro-currency for 1,000,000 tokens, by currency."""

    model: str
    token_class: TokenClass
    label: str
    rates: Mapping[Currency, int]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that pages take from elsewhere, read at the same moment."""

    api_url: str
    portal_url: str
    model: str
    plans: list[Plan]
    books: list[PriceBook]
    prices: list[Price]
    errors: Mapping[str, ErrorRow]
    endings: list[Ending]
    operations: Mapping[str, Mapping[str, str]]
    limits: Limits
    small_rest_tokens: int = SMALL_REST_TOKENS
    key: str = "nsk_live_…"

    @property
    def free(self) -> Plan | None:
        """The plan that somebody begins with."""
        return next((plan for plan in self.plans if plan.plan_id == "free"), None)


async def gather_facts(parts: Parts) -> Facts:
    """Read the plans and the prices that are in force now, and join them with what the code knows."""
    books = await prices.books_at(parts.db, parts.door.clock.now(), None)
    return Facts(
        api_url=parts.settings.base.api_url,
        portal_url=parts.settings.base.public_url,
        model=(await models_offered(parts, Currency.IDR))[0],
        plans=await plans.list_plans(parts.db),
        books=books,
        prices=price_rows(books),
        errors=ERRORS,
        endings=[ending_of(reason) for reason in EndReason],
        operations=operations_of(parts.settings.base.api_url),
        limits=parts.settings.base.limits,
    )


def price_rows(books: list[PriceBook]) -> list[Price]:
    """List each price that some book names, with what every book says of it; a class without one is not listed."""
    rows = []
    for model in dict.fromkeys(model for book in books for model in book.rates):
        given: dict[Currency, ModelRates] = {
            book.currency: book.rates[model] for book in books if model in book.rates
        }
        for token_class in TokenClass:
            rates = {
                currency: rate
                for currency, own in given.items()
                if (rate := own.given().get(token_class)) is not None
            }
            if rates:
                rows.append(Price(model, token_class, CLASSES[token_class], rates))
    return rows


def operations_of(api_url: str) -> dict[str, dict[str, str]]:
    """Return what each method of each path does, as the OpenAPI document sums it up."""
    return {
        path: {
            method.upper(): described["summary"]
            for method, described in operations.items()
            if method != "parameters"
        }
        for path, operations in openapi_document(api_url)["paths"].items()
    }


def ending_of(reason: EndReason) -> Ending:
    """Ask the function that charges what an ending costs, with usage, with text alone, and with neither."""
    cases = (
        Delivery(reading=SAID, delivered_bytes=8),
        Delivery(reading=UNSAID, delivered_bytes=8),
        Delivery(reading=UNSAID, delivered_bytes=0),
    )
    charged = [charge(reason, case, input_tokens=Tokens(6), reserved_tokens=ROOM) for case in cases]
    said = [SOURCES[None if found is None else found.source.value] for found in charged]
    return Ending(reason, MEANINGS[reason], *said)
