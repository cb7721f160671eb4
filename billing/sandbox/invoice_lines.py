"""The lines of an invoice: flat prices in advance, metered usage in arrears, and single items."""

from decimal import Decimal

import msgspec

from billing.sandbox.meters import usage_between
from billing.sandbox.periods import natural_start
from billing.sandbox.prices import is_metered
from billing.sandbox.rating import rate, share_of
from billing.sandbox.state import Json
from billing.sandbox.world import World


class LineSpec(msgspec.Struct, frozen=True):
    """What a line says; amounts in minor units, times in Unix seconds, ``key`` stable over recomputations."""

    key: str
    amount: int
    currency: str
    description: str
    start: int
    end: int
    price: Json | None = None
    unit_amount_decimal: str | None = None
    quantity: Decimal = Decimal(1)
    subscription: str | None = None
    item: str | None = None
    invoice_item: str | None = None
    proration: bool = False


class Usage(msgspec.Struct, frozen=True):
    """A stretch of metered usage that an invoice bills: whose item, which price, from when to when."""

    item: str
    price: str
    start: int
    end: int


def period_of(subscription: Json) -> tuple[int, int]:
    """Return the current period of a subscription; all its items share one."""
    first = subscription["items"]["data"][0]
    return first["current_period_start"], first["current_period_end"]


def usage_start(world: World, item: Json) -> int:
    """Return from when an item's usage counts: the start of its period, or later if it came later."""
    start: int = max(item["current_period_start"], world.note(item["id"]).get("usage_from", 0))
    return start


def open_usage(world: World, subscription: Json, until: int) -> list[Usage]:
    """Return the metered usage of the current period up to a moment, item by item."""
    return [
        Usage(item["id"], item["price"]["id"], usage_start(world, item), until)
        for item in subscription["items"]["data"]
        if is_metered(item["price"])
    ]


def usage_lines(world: World, subscription: Json, usage: Usage) -> list[LineSpec]:
    """Rate one stretch of usage as it stands now: one line, or one for each tier that it reaches."""
    price = world.table("price")[usage.price]
    quantity = usage_between(
        world, price["recurring"]["meter"], subscription["customer"], usage.start, usage.end
    )
    name = world.table("product")[price["product"]]["name"]
    return [
        LineSpec(
            key=f"{usage.item}{usage.start}{row.tier}",
            amount=row.amount,
            currency=price["currency"],
            description=f"{row.quantity:f} x {name}" + (f" (tier {row.tier})" if row.tier else ""),
            start=usage.start,
            end=usage.end,
            price=price,
            unit_amount_decimal=row.unit_amount_decimal,
            quantity=row.quantity,
            subscription=subscription["id"],
            item=usage.item,
        )
        for row in rate(price, world.note(price["id"])["tiers"], quantity)
    ]


def flat_lines(world: World, subscription: Json, start: int, end: int) -> list[LineSpec]:
    """Bill the flat prices for a period in advance; a period shorter than a whole one costs its share."""
    lines = []
    for item in subscription["items"]["data"]:
        if is_metered(item["price"]):
            continue
        whole_s = whole_of(subscription, item["price"], (start, end))
        lines.append(flat_line(world, subscription, item, (start, end), whole_s=whole_s))
    return lines


def whole_of(subscription: Json, price: Json, period: tuple[int, int]) -> int:
    """Return the seconds that a full price pays for: a first period that is cut short by its anchor is a part of that."""
    start, end = period
    return end - min(start, natural_start(subscription["billing_cycle_anchor"], price["recurring"], end))


def flat_line(
    world: World,
    subscription: Json,
    item: Json,
    period: tuple[int, int],
    *,
    whole_s: int,
    credit: bool = False,
    proration: bool = False,
) -> LineSpec:
    """Bill, or credit, one flat item for a period that is all or a part of ``whole_s`` seconds."""
    start, end = period
    price, quantity = item["price"], item["quantity"]
    full = sum(row.amount for row in rate(price, world.note(price["id"])["tiers"], Decimal(quantity)))
    amount = share_of(full, end - start, whole_s)
    name = world.table("product")[price["product"]]["name"]
    kind = ("Unused time on " if credit else "Remaining time on ") if proration else ""
    return LineSpec(
        key=f"{item['id']}{price['id'][-6:]}{start}{'c' if credit else ''}",
        amount=-amount if credit else amount,
        currency=price["currency"],
        description=f"{kind}{quantity} x {name}",
        start=start,
        end=end,
        price=price,
        unit_amount_decimal=price["unit_amount_decimal"],
        quantity=Decimal(quantity),
        subscription=subscription["id"],
        item=item["id"],
        proration=proration,
    )


def item_line(world: World, item: Json) -> LineSpec:
    """Bill a pending invoice item."""
    price = world.table("price").get(world.note(item["id"]).get("price", ""))
    return LineSpec(
        key=item["id"],
        amount=item["amount"],
        currency=item["currency"],
        description=item["description"] or "",
        start=item["period"]["start"],
        end=item["period"]["end"],
        price=price,
        quantity=Decimal(item["quantity_decimal"]),
        unit_amount_decimal=world.note(item["id"]).get("unit_amount_decimal"),
        subscription=world.note(item["id"]).get("subscription"),
        invoice_item=item["id"],
        proration=item["proration"],
    )


def write_line(spec: LineSpec, invoice_id: str) -> Json:
    """Write a line as Stripe shows it; ``quantity`` is cut to a whole number, ``quantity_decimal`` is exact."""
    pricing = None
    if spec.price is not None:
        details = {"price": spec.price["id"], "product": spec.price["product"]}
        pricing = {
            "price_details": details,
            "type": "price_details",
            "unit_amount_decimal": spec.unit_amount_decimal,
        }
    return {
        "id": f"il_{spec.key.replace('_', '')}",
        "object": "line_item",
        "amount": spec.amount,
        "currency": spec.currency,
        "description": spec.description,
        "discount_amounts": [],
        "discountable": not spec.proration,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": False,
        "metadata": {},
        "parent": _parent(spec),
        "period": {"end": spec.end, "start": spec.start},
        "pretax_credit_amounts": [],
        "pricing": pricing,
        "quantity": int(spec.quantity),
        "quantity_decimal": f"{spec.quantity:f}",
        "subtotal": spec.amount,
        "taxes": [],
    }


def _parent(spec: LineSpec) -> Json | None:
    common = {"proration": spec.proration, "proration_details": {"credited_items": None}}
    if spec.invoice_item is not None:
        details = {"invoice_item": spec.invoice_item, "subscription": spec.subscription, **common}
        return {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }
    if spec.item is None:
        return None
    item = {"invoice_item": None, "subscription": spec.subscription, "subscription_item": spec.item, **common}
    return {
        "invoice_item_details": None,
        "subscription_item_details": item,
        "type": "subscription_item_details",
    }
