"""Changing what a subscription is made of in the middle of a period, and what that costs.

A flat price is prorated by the second: unused time is credited, remaining time is charged. A metered item
that is removed or repriced bills its usage so far in billing mode ``flexible`` and loses it in ``classic``.
"""

from copy import deepcopy

import msgspec

from billing.sandbox.fields import Fields
from billing.sandbox.invoice_items import new_item
from billing.sandbox.invoice_lines import (
    LineSpec,
    Usage,
    flat_line,
    period_of,
    usage_lines,
    usage_start,
    whole_of,
)
from billing.sandbox.invoicing import drop_usage
from billing.sandbox.prices import is_metered
from billing.sandbox.refusals import NoSuchObject, Refusal
from billing.sandbox.state import Json
from billing.sandbox.subscription_cycle import add_item
from billing.sandbox.world import World


class Change(msgspec.Struct, frozen=True):
    """One item added (no ``item``), removed (no ``price``), repriced, or given another quantity."""

    item: Json | None
    price: Json | None
    quantity: int | None


def read_changes(world: World, fields: Fields, subscription: Json) -> list[Change]:
    """Read ``items`` of an update; an item that stays as it is, is no change."""
    changes = []
    for row in fields.rows("items"):
        change = _read_change(world, row, subscription)
        if change is not None:
            changes.append(change)
    removed = sum(1 for change in changes if change.price is None)
    added = sum(1 for change in changes if change.item is None)
    if removed and len(subscription["items"]["data"]) + added - removed < 1:
        raise Refusal("A subscription must have at least one active item.", param="items")
    return changes


def _read_change(world: World, row: Fields, subscription: Json) -> Change | None:
    identifier, price_id = row.text("id"), row.text("price")
    quantity, deleted = row.integer("quantity"), row.flag("deleted") or False
    row.ignore("metadata", "tax_rates", "clear_usage")
    item = _item(subscription, identifier, row.name_of("id")) if identifier else None
    price = world.find("price", price_id, param=row.name_of("price")) if price_id else None
    if item is None and price is None:
        raise Refusal("An item needs an id or a price.", param=row.name_of("price"))
    if deleted:
        return Change(item, None, None)
    new_price = price or (item["price"] if item else {})
    _check_fits(subscription, new_price, row)
    if item is None:
        return Change(None, new_price, quantity)
    kept_quantity = item.get("quantity") if quantity is None else quantity
    if new_price["id"] == item["price"]["id"] and kept_quantity == item.get("quantity"):
        return None
    return Change(item, new_price, kept_quantity)


def _check_fits(subscription: Json, price: Json, row: Fields) -> None:
    current = subscription["items"]["data"][0]["price"]
    if price["recurring"] is None or price["currency"] != subscription["currency"]:
        raise Refusal(
            "The price must be recurring and in the subscription's currency.", param=row.name_of("price")
        )
    rhythm = ("interval", "interval_count")
    if any(price["recurring"][name] != current["recurring"][name] for name in rhythm):
        raise Refusal("The sandbox does not change a subscription's interval.", param=row.name_of("price"))


def _item(subscription: Json, identifier: str, param: str) -> Json:
    items: list[Json] = subscription["items"]["data"]
    for item in items:
        if item["id"] == identifier:
            return item
    raise NoSuchObject("subscription_item", identifier, param=param)


def apply_changes(world: World, subscription: Json, changes: list[Change], *, at: int, prorate: bool) -> Json:
    """Change the items, leave what that costs pending for the next invoice, and return the items as they were."""
    before: Json = deepcopy(subscription["items"])
    customer = world.table("customer")[subscription["customer"]]
    for spec in proration_lines(world, subscription, changes, at=at, prorate=prorate):
        new_item(world, customer, spec)
    for change in changes:
        _apply(world, subscription, change, at)
    return before


def proration_lines(
    world: World, subscription: Json, changes: list[Change], *, at: int, prorate: bool
) -> list[LineSpec]:
    """Work out what the changes cost at a moment, without making them: previews use this too."""
    start, end = period_of(subscription)
    lines: list[LineSpec] = []
    for change in changes:
        item = change.item
        if item is not None and is_metered(item["price"]):
            if subscription["billing_mode"]["type"] == "flexible":
                usage = Usage(item["id"], item["price"]["id"], usage_start(world, item), at)
                lines += usage_lines(world, subscription, usage)
        elif item is not None and prorate and start <= at < end:
            lines.append(_part(world, subscription, item, (at, end), credit=True))
        if change.price is not None and not is_metered(change.price) and prorate and start <= at < end:
            fresh = {**(item or {"id": "si_new"}), "price": change.price, "quantity": change.quantity or 1}
            lines.append(_part(world, subscription, fresh, (at, end), credit=False))
    return lines


def _part(world: World, subscription: Json, item: Json, period: tuple[int, int], *, credit: bool) -> LineSpec:
    whole_s = whole_of(subscription, item["price"], period_of(subscription))
    return flat_line(world, subscription, item, period, whole_s=whole_s, credit=credit, proration=True)


def _apply(world: World, subscription: Json, change: Change, at: int) -> None:
    start_end = (at, period_of(subscription)[1])
    item = change.item
    if item is None:
        if change.price is not None:
            add_item(world, subscription, change.price, change.quantity, period=start_end)
            subscription["items"]["data"][-1]["current_period_start"] = period_of(subscription)[0]
        return
    if is_metered(item["price"]):
        drop_usage(world, item["id"])
    world.note(item["id"])["usage_from"] = at
    if change.price is None:
        subscription["items"]["data"].remove(item)
        return
    item["price"] = change.price
    if is_metered(change.price):
        item.pop("quantity", None)
    else:
        item["quantity"] = change.quantity or 1
