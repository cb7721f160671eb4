"""Prices: flat or metered, one unit amount or graduated tiers, in rupiah or dollars.

Amounts are minor units of two decimals for both currencies: Stripe counts Rp 1 as 100
(docs.stripe.com/currencies), whatever locale libraries believe.
"""

from decimal import Decimal

from billing.sandbox.events import changed, emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.products import create_inline
from billing.sandbox.refusals import ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

KIND = "price"
CURRENCIES = ("idr", "usd")
INTERVALS = ("day", "week", "month", "year")


def create(world: World, call: Call) -> Json:
    """Create a price of a product that exists or that comes along as ``product_data``."""
    fields = call.fields
    fields.ignore("tax_behavior")
    lookup_key, nickname = fields.text("lookup_key"), fields.text("nickname")
    active = fields.flag("active")
    holders = _holders(world, lookup_key, transfers=fields.flag("transfer_lookup_key") is True)
    price = new_price(world, fields)
    for holder in holders:
        holder["lookup_key"] = None
    price.update(lookup_key=lookup_key, nickname=nickname, active=active is not False)
    emit(world, "price.created", price)
    return price


def new_price(world: World, fields: Fields) -> Json:
    """Read and add a price, from ``/v1/prices`` or from a ``price_data`` of Checkout; refuses what is left over."""
    currency = fields.choice("currency", *CURRENCIES)
    if currency is None:
        raise ParameterRefusal(
            "Missing required param: currency.", param="currency", stripe_code="parameter_missing"
        )
    recurring = _recurring(world, fields)
    scheme = fields.choice("billing_scheme", "per_unit", "tiered") or "per_unit"
    tiers, tiers_mode = _tiers(fields), fields.choice("tiers_mode", "graduated", "volume")
    amount, exact = _unit_amount(fields)
    product, inline = fields.text("product"), fields.group("product_data")
    metadata = merged_metadata(fields)
    if scheme == "tiered" and (tiers_mode != "graduated" or not tiers):
        raise Refusal("The sandbox offers graduated tiers only, and at least one.", param="tiers")
    if scheme == "per_unit" and exact is None:
        raise ParameterRefusal("Missing required param: unit_amount.", param="unit_amount")
    if (product is None) == (inline is None):
        raise ParameterRefusal("Specify exactly one of product and product_data.", param="product")
    owner = create_inline(world, inline) if inline else world.find("product", product or "", param="product")
    fields.finish()
    price: Json = {
        "id": world.new_id("price"),
        "object": KIND,
        "active": True,
        "billing_scheme": scheme,
        "created": world.now(),
        "currency": currency,
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": metadata,
        "nickname": None,
        "product": owner["id"],
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers_mode": tiers_mode,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": exact,
    }
    world.note(price["id"])["tiers"] = tiers
    return world.add(price)


def is_metered(price: Json) -> bool:
    """Tell whether a price bills what a meter counts."""
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def retrieve(world: World, call: Call) -> Json:
    """Return a price; its tiers only when ``expand`` names them, as at Stripe."""
    call.fields.finish()
    price = world.find(KIND, call.id)
    if "tiers" in (call.fields.raw("expand") or []):
        return {**price, "tiers": world.note(price["id"])["tiers"]}
    return price


def update(world: World, call: Call) -> Json:
    """Change a price's names and whether it is for sale; never what it costs."""
    fields = call.fields
    price = world.find(KIND, call.id)
    fresh: Json = {name: fields.text(name) for name in ("nickname", "lookup_key") if fields.has(name)}
    active = fields.flag("active")
    if active is not None:
        fresh["active"] = active
    fresh["metadata"] = merged_metadata(fields, price["metadata"])
    fields.ignore("tax_behavior")
    transfers = fields.flag("transfer_lookup_key") is True
    key = fresh.get("lookup_key")
    holders = [] if key == price["lookup_key"] else _holders(world, key, transfers=transfers)
    fields.finish()
    for holder in holders:
        holder["lookup_key"] = None
    before = changed(price, fresh)
    emit(world, "price.updated", price, before=before)
    return price


def list_prices(world: World, call: Call) -> Json:
    """List prices by product, currency, type, lookup key or whether they are for sale."""
    fields = call.fields
    active, keys = fields.flag("active"), fields.texts("lookup_keys")
    wanted = {name: fields.text(name) for name in ("product", "currency", "type")}
    created = created_filter(fields)
    fields.ignore("recurring")
    rows = [
        price
        for price in world.table(KIND).values()
        if created(price)
        and active in {None, price["active"]}
        and (not keys or price["lookup_key"] in keys)
        and all(value in {None, price[name]} for name, value in wanted.items())
    ]
    return page_of(rows, call, "/v1/prices")


def _holders(world: World, lookup_key: str | None, *, transfers: bool) -> list[Json]:
    """Find the price that has a lookup key already; refuse that unless the key is to be taken over."""
    found = [
        price for price in world.table(KIND).values() if lookup_key and price["lookup_key"] == lookup_key
    ]
    if found and not transfers:
        raise Refusal(f"A price already uses the lookup key {lookup_key}.", param="lookup_key")
    return found


def _recurring(world: World, fields: Fields) -> Json | None:
    group = fields.group("recurring")
    if group is None:
        return None
    interval = group.choice("interval", *INTERVALS)
    if interval is None:
        raise ParameterRefusal("Missing required param: recurring[interval].", param="recurring[interval]")
    usage_type = group.choice("usage_type", "licensed", "metered") or "licensed"
    meter = group.text("meter")
    count = group.integer("interval_count") or 1
    group.ignore("trial_period_days")
    if usage_type == "metered":
        # Since 2025-03-31.basil a metered price must name a meter.
        if meter is None:
            raise ParameterRefusal("Missing required param: recurring[meter].", param="recurring[meter]")
        found = world.find("billing.meter", meter, param="recurring[meter]")
        if found["status"] != "active":
            raise Refusal("The meter is inactive.", param="recurring[meter]")
    return {
        "interval": interval,
        "interval_count": count,
        "meter": meter,
        "usage_type": usage_type,
    }


def _unit_amount(fields: Fields, name: str = "unit_amount") -> tuple[int | None, str | None]:
    """Read an amount in minor units; the whole number is ``None`` where the exact one has a fraction."""
    amount, exact = fields.integer(name), fields.decimal(f"{name}_decimal")
    if amount is not None and exact is not None:
        raise ParameterRefusal(f"Specify only one of {name} and {name}_decimal.", param=name)
    if exact is not None and Decimal(exact) == int(Decimal(exact)):
        amount = int(Decimal(exact))
    if amount is not None and exact is None:
        exact = str(amount)
    if exact is not None and Decimal(exact) < 0:
        raise ParameterRefusal(f"Invalid non-negative decimal: {exact}", param=name)
    return amount, exact


def _tiers(fields: Fields) -> list[Json]:
    """Read graduated tiers: ascending bounds, the last one ``inf``."""
    tiers = []
    for row in fields.rows("tiers"):
        bound = row.need_text("up_to")
        amount, exact = _unit_amount(row)
        flat, flat_exact = _unit_amount(row, "flat_amount")
        tiers.append(
            {
                "flat_amount": flat,
                "flat_amount_decimal": flat_exact,
                "unit_amount": amount,
                "unit_amount_decimal": exact,
                "up_to": None if bound == "inf" else int(bound),
            }
        )
    bounds = [tier["up_to"] for tier in tiers]
    finite = [int(bound) for bound in bounds if bound is not None]
    if tiers and (bounds[-1] is not None or len(finite) != len(bounds) - 1 or finite != sorted(set(finite))):
        raise ParameterRefusal("Tiers must ascend and end with up_to=inf.", param="tiers")
    return tiers


ROUTES = [
    Route("POST", "/v1/prices", create),
    Route("GET", "/v1/prices", list_prices),
    Route("GET", "/v1/prices/{price}", retrieve),
    Route("POST", "/v1/prices/{price}", update),
]
