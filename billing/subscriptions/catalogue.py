"""What is for sale at Stripe: a product for every plan, a monthly price for each currency, and a price for usage.

A price's lookup key says all that the price is, so setting up twice makes nothing twice, and a new amount is a new
price: those who bought at the old one keep it until they change their plan. Usage costs one unit of the spend meter
per unit, whatever tokens cost: price books decide that, and Stripe's price never changes.
"""

from decimal import Decimal

import msgspec
import stripe as sdk_types

from billing.stripe.client import Stripe
from billing.stripe.errors import StripeMissing
from billing.stripe.meters import ensure_meters
from billing.stripe.money import STRIPE_MONEY
from billing.subscriptions import store
from billing.subscriptions.model import NoPriceForPlan, Price
from gateway.clock import Clock
from gateway.db.pool import Db
from gateway.errors import ConfigurationError
from gateway.plans import service as plans
from gateway.plans.model import Billing, Plan
from gateway.units import Currency

PLAN_KEY = "nusagate_plan"
FLAT = "flat"
METERED = "metered"
MICRO_EXPONENT = 6
LOOKUP_KEYS_AT_ONCE = 10
"""Stripe looks up ten keys at a time."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A price that should be at Stripe."""

    plan: Plan
    currency: Currency
    kind: str
    unit_amount_decimal: str

    @property
    def lookup_key(self) -> str:
        """Say all that the price is."""
        return f"nusagate_{self.plan.plan_id}_{self.currency}_{self.kind}_{self.unit_amount_decimal}"


def minor_units(amount_micro: int, currency: Currency) -> int:
    """Write a monthly price in Stripe's minor units: Rp 9,999 is 999,900. ``ConfigurationError`` if it has a rest."""
    micro_per_minor = 10 ** (MICRO_EXPONENT - STRIPE_MONEY[currency].minor_exponent)
    minor, rest = divmod(amount_micro, micro_per_minor)
    if rest:
        raise ConfigurationError(
            f"a monthly price of {amount_micro} micro-{currency} has no exact amount at Stripe"
        )
    return int(minor)


def wanted_prices(all_plans: list[Plan]) -> list[Wanted]:
    """List the prices that the plans ask for: nothing for what costs nothing."""
    wanted = []
    for plan in all_plans:
        for currency, amount_micro in plan.monthly_price_micro.items():
            if plan.billing is Billing.FLAT and amount_micro:
                amount = str(minor_units(amount_micro, currency))
                wanted.append(Wanted(plan=plan, currency=currency, kind=FLAT, unit_amount_decimal=amount))
        if plan.billing is Billing.METERED:
            wanted += [
                Wanted(
                    plan=plan, currency=currency, kind=METERED, unit_amount_decimal=money.unit_amount_decimal
                )
                for currency, money in STRIPE_MONEY.items()
            ]
    return wanted


async def setup(db: Db, clock: Clock, stripe: Stripe) -> list[Price]:
    """Make meters, products and prices that are missing at Stripe, and remember the prices. Raises a ``StripeError``."""
    meters = await ensure_meters(stripe)
    wanted = wanted_prices(await plans.list_plans(db))
    known = await _known(stripe, [price.lookup_key for price in wanted], set(meters.values()))
    prices = []
    for want in wanted:
        price_id = known.get(want.lookup_key)
        if price_id is None:
            await _ensure_product(stripe, want.plan)
            price_id = await _create_price(stripe, want, meters[want.currency])
        price = Price(
            price_id=price_id,
            lookup_key=want.lookup_key,
            plan_id=want.plan.plan_id,
            currency=want.currency,
            kind=want.kind,
            unit_amount_decimal=want.unit_amount_decimal,
        )
        await store.save_price(db, price, clock.now())
        prices.append(price)
    return prices


async def price_of(db: Db, plan: Plan, currency: Currency) -> Price:
    """Return what a plan costs now; ``NoPriceForPlan`` where it is not sold in this currency, or not set up."""
    keys = [want.lookup_key for want in wanted_prices([plan]) if want.currency is currency]
    price = await store.find_price(db, keys[0]) if keys else None
    if price is None:
        raise NoPriceForPlan(f"The plan {plan.plan_id!r} is not sold in {currency.upper()}.", param="plan")
    return price


async def prices_of(db: Db, sold: list[Plan], currency: Currency) -> dict[str, Price]:
    """Return the prices of those plans that are sold in a currency, by plan."""
    found = {}
    for want in wanted_prices(sold):
        price = await store.find_price(db, want.lookup_key) if want.currency is currency else None
        if price is not None:
            found[price.plan_id] = price
    return found


async def _known(stripe: Stripe, lookup_keys: list[str], meters: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(lookup_keys), LOOKUP_KEYS_AT_ONCE):
        for price in await _look_up(stripe, lookup_keys[start : start + LOOKUP_KEYS_AT_ONCE]):
            if price.recurring and price.recurring.meter and price.recurring.meter not in meters:
                raise ConfigurationError(
                    f"the price {price.lookup_key} at Stripe counts by a meter that is not active; take its lookup key away"
                )
            found[price.lookup_key or ""] = price.id
    return found


async def _look_up(stripe: Stripe, lookup_keys: list[str]) -> list[sdk_types.Price]:
    page = await stripe.read(
        lambda sdk: sdk.v1.prices.list_async({"lookup_keys": lookup_keys, "active": True, "limit": 100})
    )
    return page.data


def _product_id(plan: Plan) -> str:
    return f"nusagate_{plan.plan_id}"


async def _ensure_product(stripe: Stripe, plan: Plan) -> None:
    product_id = _product_id(plan)
    try:
        await stripe.read(lambda sdk: sdk.v1.products.retrieve_async(product_id))
    except StripeMissing:
        params: sdk_types.params.ProductCreateParams = {
            "id": product_id,
            "name": plan.name,
            "metadata": {PLAN_KEY: plan.plan_id},
        }
        await stripe.write(
            lambda sdk, options: sdk.v1.products.create_async(params, options),
            idempotency_key=f"product:{product_id}",
        )


async def _create_price(stripe: Stripe, want: Wanted, meter_id: str) -> str:
    params: sdk_types.params.PriceCreateParams = {
        "currency": want.currency.value,
        "product": _product_id(want.plan),
        "lookup_key": want.lookup_key,
        "metadata": {PLAN_KEY: want.plan.plan_id},
        "unit_amount_decimal": Decimal(want.unit_amount_decimal),
        "recurring": {"interval": "month", "usage_type": "licensed"},
    }
    if want.kind == METERED:
        params["recurring"] = {"interval": "month", "usage_type": "metered", "meter": meter_id}
    price = await stripe.write(
        lambda sdk, options: sdk.v1.prices.create_async(params, options),
        idempotency_key=f"price:{want.lookup_key}:{meter_id if want.kind == METERED else ''}",
    )
    return price.id
