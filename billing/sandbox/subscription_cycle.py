"""The life of a subscription: begun, renewed at every boundary, paused, and ended."""

from typing import Any

import msgspec

from billing.sandbox.events import changed, emit
from billing.sandbox.invoice_items import new_item, pending_items
from billing.sandbox.invoice_lines import flat_line, flat_lines, open_usage, period_of, whole_of
from billing.sandbox.invoicing import collect, draft_invoice, finalize
from billing.sandbox.periods import boundary_after
from billing.sandbox.prices import is_metered
from billing.sandbox.state import Json
from billing.sandbox.world import World, list_object

KIND = "subscription"
INCOMPLETE_S = 23 * 3_600
"""How long a first payment may take before the subscription expires (docs.stripe.com/billing/subscriptions/overview)."""
RENEWED = {"active", "past_due", "unpaid"}


class Terms(msgspec.Struct, frozen=True):
    """What a new subscription is begun with, from the API or from Checkout."""

    prices: list[tuple[Json, int | None]]
    """Prices and quantities; a metered price has none."""
    anchor: int
    metadata: dict[str, str]
    prorate_first_period: bool = True
    payment_method: str | None = None
    billing_mode: str = "flexible"
    description: str | None = None
    at_checkout: bool = False
    attempt_payment: bool = True
    cancel_at_period_end: bool = False


def begin(world: World, customer: Json, terms: Terms) -> Json:
    """Begin a subscription: its first invoice is finalized and collected at once."""
    now = world.now_of(customer)
    subscription = world.add(_blank(world, customer, terms, now))
    end = boundary_after(terms.anchor, terms.prices[0][0]["recurring"], now)
    for price, quantity in terms.prices:
        add_item(world, subscription, price, quantity, period=(now, end))
    customer["currency"] = subscription["currency"]
    emit(world, "customer.subscription.created", subscription)
    is_partial = terms.anchor > now
    lines = flat_lines(world, subscription, now, end) if terms.prorate_first_period or not is_partial else []
    with world.at(now):
        invoice = draft_invoice(
            world,
            customer,
            subscription,
            currency=subscription["currency"],
            reason="subscription_create",
            period=(now, now),
            lines=lines,
            usage=[],
            grace_s=0,
        )
        subscription["latest_invoice"] = invoice["id"]
        finalize(world, invoice)
        if invoice["status"] == "open" and terms.attempt_payment:
            collect(world, invoice, at_checkout=terms.at_checkout)
            # The first payment is not tried again by itself.
            invoice["next_payment_attempt"] = None
    return subscription


def _blank(world: World, customer: Json, terms: Terms, now: int) -> Json:
    identifier = world.new_id("sub")
    empty = dict.fromkeys(
        (
            *("application", "application_fee_percent", "billing_cycle_anchor_config", "billing_thresholds"),
            *("cancel_at", "canceled_at", "days_until_due", "default_source", "ended_at", "latest_invoice"),
            *(
                "next_pending_invoice_item_invoice",
                "on_behalf_of",
                "pause_collection",
                "pending_setup_intent",
            ),
            *("pending_invoice_item_interval", "pending_update", "schedule", "transfer_data", "trial_end"),
            *("trial_settings", "trial_start"),
        )
    )
    mode: Json = {"type": terms.billing_mode, "flexible": None}
    if terms.billing_mode == "flexible":
        mode["flexible"] = {"proration_discounts": "included"}
    return {
        "id": identifier,
        "object": KIND,
        **empty,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": terms.anchor,
        "billing_mode": mode,
        "billing_schedules": [],
        "cancel_at_period_end": terms.cancel_at_period_end,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": terms.prices[0][0]["currency"],
        "customer": customer["id"],
        "default_payment_method": terms.payment_method,
        "default_tax_rates": [],
        "description": terms.description,
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": list_object(f"/v1/subscription_items?subscription={identifier}", []),
        "livemode": False,
        "metadata": terms.metadata,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "start_date": now,
        "status": "incomplete",
        "test_clock": customer["test_clock"],
    }


def add_item(
    world: World, subscription: Json, price: Json, quantity: int | None, *, period: tuple[int, int]
) -> Json:
    """Add an item for a period; a metered one has no quantity, it counts usage from the period's start."""
    start, end = period
    item: Json = {
        "id": world.new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": start,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "price": price,
        "subscription": subscription["id"],
        "tax_rates": [],
    }
    if not is_metered(price):
        item["quantity"] = 1 if quantity is None else quantity
    world.note(item["id"])["usage_from"] = start
    subscription["items"]["data"].append(item)
    return item


def renew(world: World, subscription: Json) -> None:
    """Close the period that ends now: bill it, and either begin the next one or end."""
    start, end = period_of(subscription)
    if subscription["cancel_at_period_end"] or (subscription["cancel_at"] or end + 1) <= end:
        end_now(world, subscription, reason="cancellation_requested", bill_usage=True)
        return
    customer = world.table("customer")[subscription["customer"]]
    usage = open_usage(world, subscription, end)
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    following = boundary_after(subscription["billing_cycle_anchor"], recurring, end)
    before = {"items": {"data": [{"current_period_start": start, "current_period_end": end}]}}
    for item in subscription["items"]["data"]:
        item.update(current_period_start=end, current_period_end=following)
    invoice = draft_invoice(
        world,
        customer,
        subscription,
        currency=subscription["currency"],
        reason="subscription_cycle",
        period=(start, end),
        lines=flat_lines(world, subscription, end, following),
        usage=usage,
        auto_advance=_advances(subscription),
    )
    subscription["latest_invoice"] = invoice["id"]
    emit(world, "customer.subscription.updated", subscription, before=before)


def _advances(subscription: Json) -> bool:
    pause = subscription["pause_collection"]
    kept = pause is not None and pause["behavior"] == "keep_as_draft"
    return subscription["status"] != "unpaid" and not kept


def end_now(
    world: World,
    subscription: Json,
    *,
    reason: str,
    bill_usage: bool = False,
    credit_unused: bool = False,
) -> None:
    """End a subscription; its usage is billed on a last invoice only if that is asked for, as at Stripe."""
    customer = world.table("customer")[subscription["customer"]]
    now = world.now_of(customer)
    start, end = period_of(subscription)
    usage = open_usage(world, subscription, min(now, end)) if bill_usage else []
    if credit_unused:
        add_unused_credits(world, subscription, customer, now)
    fresh: dict[str, Any] = {"status": "canceled", "ended_at": now, "cancel_at_period_end": False}
    if subscription["canceled_at"] is None:
        fresh["canceled_at"] = now
    changed(subscription, fresh)
    subscription["cancellation_details"]["reason"] = reason
    if usage or (bill_usage and pending_items(world, customer["id"], subscription["currency"], subscription)):
        invoice = draft_invoice(
            world,
            customer,
            subscription,
            currency=subscription["currency"],
            reason="subscription_cycle",
            period=(start, min(now, end)),
            lines=[],
            usage=usage,
        )
        subscription["latest_invoice"] = invoice["id"]
    emit(world, "customer.subscription.deleted", subscription)


def add_unused_credits(world: World, subscription: Json, customer: Json, now: int) -> None:
    """Credit what is left of the flat prices of this period, as pending items."""
    start, end = period_of(subscription)
    for item in subscription["items"]["data"]:
        if not is_metered(item["price"]) and now < end:
            whole_s = whole_of(subscription, item["price"], (start, end))
            spec = flat_line(
                world, subscription, item, (now, end), whole_s=whole_s, credit=True, proration=True
            )
            new_item(world, customer, spec)


def expire_incomplete(world: World, subscription: Json) -> None:
    """Give up a subscription whose first payment never came."""
    before = changed(subscription, {"status": "incomplete_expired", "ended_at": world.now()})
    invoice = world.table("invoice").get(subscription["latest_invoice"] or "")
    if invoice is not None and invoice["status"] == "open":
        invoice["status"] = "void"
        invoice["status_transitions"]["voided_at"] = world.now()
        emit(world, "invoice.voided", invoice)
    emit(world, "customer.subscription.updated", subscription, before=before)
