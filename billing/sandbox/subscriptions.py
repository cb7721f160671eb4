"""Subscriptions as the API has them: created, listed, cancelled, paused and resumed."""

from typing import Any

from billing.sandbox.dunning import collect_or_dun
from billing.sandbox.events import changed, emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.invoice_items import new_item
from billing.sandbox.invoice_lines import open_usage, period_of, usage_lines
from billing.sandbox.invoicing import draft_invoice, finalize
from billing.sandbox.payment_methods import card_for, decline_reason, method_of
from billing.sandbox.periods import anchor_from, boundary_after
from billing.sandbox.plan_change import apply_changes, read_changes
from billing.sandbox.prices import is_metered
from billing.sandbox.refusals import CardDeclined, ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.subscription_cycle import Terms, add_unused_credits, begin, end_now
from billing.sandbox.world import World

KIND = "subscription"
MAX_ITEMS = 20
ENDED = {"canceled", "incomplete_expired"}
LIVE = {"active", "past_due", "unpaid", "incomplete", "paused"}


def create(world: World, call: Call) -> Json:
    """Begin a subscription; what the first payment does to it follows ``payment_behavior``."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    chosen = [read_item(world, row) for row in fields.rows("items")]
    check_items(chosen)
    now = world.now_of(customer)
    anchor = anchor_from(fields, chosen[0][0]["recurring"], now)
    behavior = fields.choice(
        "payment_behavior",
        "allow_incomplete",
        "default_incomplete",
        "error_if_incomplete",
        "pending_if_incomplete",
    )
    prorate = fields.choice("proration_behavior", "create_prorations", "always_invoice", "none") != "none"
    method = fields.text("default_payment_method")
    if fields.choice("collection_method", "charge_automatically", "send_invoice") == "send_invoice":
        raise Refusal("The sandbox collects automatically only.", param="collection_method")
    terms = Terms(
        prices=chosen,
        anchor=anchor,
        metadata=merged_metadata(fields),
        prorate_first_period=prorate,
        payment_method=method_of(world, method, customer)["id"] if method else None,
        billing_mode=read_billing_mode(fields),
        description=fields.text("description"),
        attempt_payment=behavior != "default_incomplete",
        cancel_at_period_end=fields.flag("cancel_at_period_end") or False,
    )
    fields.ignore("currency", "off_session", "payment_settings", "automatic_tax", "invoice_settings")
    fields.finish()
    if behavior == "error_if_incomplete":
        _refuse_declined(world, customer, {"default_payment_method": terms.payment_method})
    return begin(world, customer, terms)


def read_item(world: World, row: Fields) -> tuple[Json, int | None]:
    """Read one item of a new subscription: a recurring price, and a quantity unless it is metered."""
    price = world.find("price", row.need_text("price"), param=row.name_of("price"))
    quantity = row.integer("quantity")
    row.ignore("metadata", "tax_rates")
    if price["recurring"] is None:
        raise Refusal("The price must be recurring.", param=row.name_of("price"))
    if not price["active"]:
        raise Refusal("The price specified is inactive.", param=row.name_of("price"))
    if is_metered(price) and quantity is not None:
        raise Refusal("Quantity should not be specified for metered prices.", param=row.name_of("quantity"))
    return price, quantity


def check_items(chosen: list[tuple[Json, int | None]]) -> None:
    """Refuse items that cannot be on one subscription: none, too many, two currencies or two intervals."""
    if not chosen:
        raise ParameterRefusal(
            "Missing required param: items.", param="items", stripe_code="parameter_missing"
        )
    if len(chosen) > MAX_ITEMS:
        raise Refusal(f"A subscription has at most {MAX_ITEMS} items.", param="items")
    if len({price["currency"] for price, _ in chosen}) > 1:
        raise Refusal("All prices of a subscription must have one currency.", param="items")
    rhythms = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price, _ in chosen}
    if len(rhythms) > 1:
        raise Refusal("The sandbox bills all prices of a subscription at one interval.", param="items")


def read_billing_mode(fields: Fields) -> str:
    """Read ``billing_mode[type]``; flexible is the default since 2025-09-30.clover."""
    group = fields.group("billing_mode")
    if group is None:
        return "flexible"
    group.ignore("flexible")
    return group.choice("type", "flexible", "classic") or "flexible"


def retrieve(world: World, call: Call) -> Json:
    """Return a subscription."""
    call.fields.finish()
    return world.find(KIND, call.id)


def list_subscriptions(world: World, call: Call) -> Json:
    """List subscriptions by customer, price and status; ended ones only when asked for."""
    fields = call.fields
    customer, price, test_clock = fields.text("customer"), fields.text("price"), fields.text("test_clock")
    status = fields.choice("status", "all", "ended", *LIVE, *ENDED, "trialing")
    created = created_filter(fields)
    fields.ignore("collection_method", "current_period_end", "current_period_start", "automatic_tax")
    rows = [
        subscription
        for subscription in world.table(KIND).values()
        if created(subscription)
        and customer in {None, subscription["customer"]}
        and (customer is not None or subscription["test_clock"] == test_clock)
        and _has_status(subscription, status)
        and (price is None or any(item["price"]["id"] == price for item in subscription["items"]["data"]))
    ]
    return page_of(rows, call, "/v1/subscriptions")


def _has_status(subscription: Json, status: str | None) -> bool:
    if status == "all":
        return True
    if status == "ended":
        return subscription["status"] in ENDED
    if status is None:
        return subscription["status"] not in ENDED
    return bool(subscription["status"] == status)


def update(world: World, call: Call) -> Json:
    """Change plan, card, metadata, or when it ends; prorations follow ``proration_behavior``."""
    fields = call.fields
    subscription = _live(world, call.id)
    customer = world.table("customer")[subscription["customer"]]
    now = world.now_of(customer)
    fresh = _read_fresh(world, fields, subscription, customer, now)
    changes = read_changes(world, fields, subscription)
    behavior = fields.choice("proration_behavior", "create_prorations", "always_invoice", "none")
    proration_at = fields.integer("proration_date") or now
    payment = fields.text("payment_behavior")
    if fields.choice("billing_cycle_anchor", "unchanged", "now") == "now":
        raise Refusal("The sandbox keeps the billing cycle anchor.", param="billing_cycle_anchor")
    fields.ignore("off_session", "payment_settings", "automatic_tax", "invoice_settings", "collection_method")
    fields.finish()
    if behavior == "always_invoice" and payment == "error_if_incomplete":
        _refuse_declined(world, customer, subscription)
    before = changed(subscription, fresh)
    if changes:
        before["items"] = apply_changes(
            world, subscription, changes, at=proration_at, prorate=behavior != "none"
        )
    emit(world, "customer.subscription.updated", subscription, before=before)
    if changes and behavior == "always_invoice":
        _invoice_now(world, subscription, customer, "subscription_update")
    return subscription


def _read_fresh(world: World, fields: Fields, subscription: Json, customer: Json, now: int) -> dict[str, Any]:
    """Read the plain fields of an update."""
    fresh: dict[str, Any] = {"metadata": merged_metadata(fields, subscription["metadata"])}
    if fields.has("description"):
        fresh["description"] = fields.text("description")
    if method := fields.text("default_payment_method"):
        fresh["default_payment_method"] = method_of(world, method, customer)["id"]
    at_end = fields.flag("cancel_at_period_end")
    if at_end is not None:
        fresh.update(cancel_at_period_end=at_end, canceled_at=now if at_end else None)
        fresh["cancel_at"] = period_of(subscription)[1] if at_end else None
    if fields.has("cancel_at"):
        cancel_at = fields.integer("cancel_at")
        fresh.update(cancel_at=cancel_at, canceled_at=None if cancel_at is None else now)
    if fields.has("pause_collection"):
        pause = fields.group("pause_collection")
        fresh["pause_collection"] = pause and {
            "behavior": pause.choice("behavior", "keep_as_draft", "mark_uncollectible", "void") or "void",
            "resumes_at": pause.integer("resumes_at"),
        }
    if details := fields.group("cancellation_details"):
        fresh["cancellation_details"] = {
            **subscription["cancellation_details"],
            "comment": details.text("comment"),
            "feedback": details.text("feedback"),
        }
    return fresh


def cancel(world: World, call: Call) -> Json:
    """Cancel now; ``invoice_now`` bills the usage so far, ``prorate`` credits unused time."""
    fields = call.fields
    subscription = _live(world, call.id)
    invoice_now, prorate = fields.flag("invoice_now") or False, fields.flag("prorate") or False
    details = fields.group("cancellation_details")
    if details:
        subscription["cancellation_details"]["comment"] = details.text("comment")
        subscription["cancellation_details"]["feedback"] = details.text("feedback")
    fields.finish()
    end_now(
        world, subscription, reason="cancellation_requested", bill_usage=invoice_now, credit_unused=prorate
    )
    return subscription


def pause(world: World, call: Call) -> Json:
    """Pause a subscription: no invoices until it is resumed; usage so far waits for the next one."""
    fields = call.fields
    subscription = _live(world, call.id)
    fields.choice("type", "subscription")
    bill_for = fields.group("bill_for")
    usage = unused = "now"
    if bill_for:
        usage = _bill_type(bill_for.group("outstanding_usage_through"))
        unused = _bill_type(bill_for.group("unused_time_from"))
    behavior = fields.choice("invoicing_behavior", "invoice", "pending_invoice_item")
    fields.finish()
    if subscription["status"] != "active":
        raise Refusal("Only active subscriptions can be paused.")
    customer = world.table("customer")[subscription["customer"]]
    now = world.now_of(customer)
    if usage == "now":
        for stretch in open_usage(world, subscription, now):
            for spec in usage_lines(world, subscription, stretch):
                new_item(world, customer, spec)
            world.note(stretch.item)["usage_from"] = now
    if unused == "now":
        add_unused_credits(world, subscription, customer, now)
    before = changed(subscription, {"status": "paused"})
    emit(world, "customer.subscription.paused", subscription, before=before)
    if behavior == "invoice":
        _invoice_now(world, subscription, customer, "subscription_update")
    return subscription


def resume(world: World, call: Call) -> Json:
    """Resume a paused subscription, in a period of its own from now, or in the one that the anchor says."""
    fields = call.fields
    subscription = world.find(KIND, call.id)
    anchor = fields.choice("billing_cycle_anchor", "now", "unchanged") or "now"
    fields.ignore("proration_behavior", "proration_date", "payment_behavior")
    fields.finish()
    if subscription["status"] != "paused":
        raise Refusal("Only paused subscriptions can be resumed.")
    customer = world.live_customer(subscription["customer"])
    now = world.now_of(customer)
    if anchor == "now":
        subscription["billing_cycle_anchor"] = now
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    end = boundary_after(subscription["billing_cycle_anchor"], recurring, now)
    for item in subscription["items"]["data"]:
        item.update(current_period_start=now, current_period_end=end)
        world.note(item["id"])["usage_from"] = now
    before = changed(subscription, {"status": "active"})
    emit(world, "customer.subscription.resumed", subscription, before=before)
    return subscription


def _bill_type(group: Fields | None) -> str:
    return (group.text("type") if group else None) or "now"


def _invoice_now(world: World, subscription: Json, customer: Json, reason: str) -> None:
    """Put everything that is pending on an invoice, finalize and collect it at once."""
    invoice = draft_invoice(
        world,
        customer,
        subscription,
        currency=subscription["currency"],
        reason=reason,
        period=(world.now_of(customer), world.now_of(customer)),
        lines=[],
        usage=[],
        grace_s=0,
    )
    subscription["latest_invoice"] = invoice["id"]
    finalize(world, invoice)
    if invoice["status"] == "open":
        collect_or_dun(world, invoice)


def _refuse_declined(world: World, customer: Json, subscription: Json) -> None:
    reason = decline_reason(card_for(world, customer, subscription))
    if reason is not None:
        raise CardDeclined(reason)


def _live(world: World, identifier: str) -> Json:
    subscription = world.find(KIND, identifier)
    if subscription["status"] in ENDED:
        raise Refusal(
            f"No such subscription: '{identifier}'", param="id", stripe_code="resource_missing", status=404
        )
    return subscription


ROUTES = [
    Route("POST", "/v1/subscriptions", create),
    Route("GET", "/v1/subscriptions", list_subscriptions),
    Route("GET", "/v1/subscriptions/{id}", retrieve),
    Route("POST", "/v1/subscriptions/{id}", update),
    Route("DELETE", "/v1/subscriptions/{id}", cancel),
    Route("POST", "/v1/subscriptions/{id}/pause", pause),
    Route("POST", "/v1/subscriptions/{id}/resume", resume),
]
