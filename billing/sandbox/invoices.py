"""Invoices as the API has them: read, previewed, made by hand, finalized, paid, voided."""

from typing import Any

from billing.sandbox.blank_invoice import blank_invoice
from billing.sandbox.dunning import collect_or_dun
from billing.sandbox.events import emit
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.invoice_items import pending_items
from billing.sandbox.invoice_lines import (
    LineSpec,
    flat_lines,
    item_line,
    open_usage,
    period_of,
    usage_lines,
    write_line,
)
from billing.sandbox.invoicing import (
    KIND,
    draft_invoice,
    finalize,
    mark_paid,
    mark_uncollectible,
    refresh,
    set_lines,
    subscription_of,
    void,
)
from billing.sandbox.payment_methods import card_for, decline_reason
from billing.sandbox.periods import boundary_after
from billing.sandbox.plan_change import proration_lines, read_changes
from billing.sandbox.refusals import CardDeclined, Refusal
from billing.sandbox.routing import Call, Route, created_filter, page_of
from billing.sandbox.state import Json
from billing.sandbox.world import World

STATUSES = ("draft", "open", "paid", "uncollectible", "void")


def create(world: World, call: Call) -> Json:
    """Make an invoice of a customer's pending items; it stays a draft unless ``auto_advance`` is true."""
    fields = call.fields
    customer = world.live_customer(fields.need_text("customer"))
    subscription_id = fields.text("subscription")
    subscription = (
        world.find("subscription", subscription_id, param="subscription") if subscription_id else None
    )
    currency = fields.text("currency") or customer["currency"] or "usd"
    take = fields.choice("pending_invoice_items_behavior", "include", "exclude") == "include" or subscription
    advance, metadata = fields.flag("auto_advance") or False, merged_metadata(fields)
    description = fields.text("description")
    fields.ignore("collection_method", "automatic_tax", "payment_settings", "footer", "rendering")
    fields.finish()
    now = world.now_of(customer)
    invoice = draft_invoice(
        world,
        customer,
        subscription,
        currency=currency,
        reason="manual",
        period=(now, now),
        lines=[],
        usage=[],
        auto_advance=advance,
        take_pending=bool(take),
    )
    invoice.update(metadata=metadata, description=description)
    return invoice


def retrieve(world: World, call: Call) -> Json:
    """Return an invoice; a draft shows the usage of this moment."""
    call.fields.finish()
    return refresh(world, world.find(KIND, call.id))


def update(world: World, call: Call) -> Json:
    """Change metadata, description, or whether and when a draft finalizes by itself."""
    fields = call.fields
    invoice = world.find(KIND, call.id)
    fresh: dict[str, Any] = {"metadata": merged_metadata(fields, invoice["metadata"])}
    if fields.has("description"):
        fresh["description"] = fields.text("description")
    advance, finalizes_at = fields.flag("auto_advance"), fields.integer("automatically_finalizes_at")
    fields.finish()
    if finalizes_at is not None and invoice["status"] != "draft":
        raise Refusal("Only drafts finalize.", param="automatically_finalizes_at")
    invoice.update(fresh)
    if advance is not None:
        invoice["auto_advance"] = advance
        if not advance:
            invoice.update(automatically_finalizes_at=None, next_payment_attempt=None)
    if finalizes_at is not None:
        invoice["automatically_finalizes_at"] = finalizes_at
    emit(world, "invoice.updated", invoice)
    return refresh(world, invoice)


def list_invoices(world: World, call: Call) -> Json:
    """List invoices by customer, subscription and status."""
    fields = call.fields
    customer, subscription = fields.text("customer"), fields.text("subscription")
    status = fields.choice("status", *STATUSES)
    created = created_filter(fields)
    fields.ignore("collection_method", "due_date")
    rows = [
        invoice
        for invoice in world.table(KIND).values()
        if created(invoice)
        and customer in {None, invoice["customer"]}
        and status in {None, invoice["status"]}
        and (subscription is None or (subscription_of(world, invoice) or {}).get("id") == subscription)
    ]
    page = page_of(rows, call, "/v1/invoices")
    for invoice in page["data"]:
        refresh(world, invoice)
    return page


def list_lines(world: World, call: Call) -> Json:
    """List the lines of an invoice, in their order."""
    invoice = refresh(world, world.find(KIND, call.id))
    return page_of(reversed(invoice["lines"]["data"]), call, f"/v1/invoices/{invoice['id']}/lines")


def delete(world: World, call: Call) -> Json:
    """Delete a draft that was made by hand; its items wait for another invoice again."""
    call.fields.finish()
    invoice = _in_status(world, call, "draft")
    if invoice["billing_reason"] != "manual":
        raise Refusal("Only invoices made by hand can be deleted.")
    for item in world.table("invoiceitem").values():
        if item["invoice"] == invoice["id"]:
            item["invoice"] = None
    del world.table(KIND)[invoice["id"]]
    emit(world, "invoice.deleted", invoice)
    return {"id": invoice["id"], "object": KIND, "deleted": True}


def finalize_now(world: World, call: Call) -> Json:
    """Finalize a draft before its time; collecting follows if it advances by itself."""
    advance = call.fields.flag("auto_advance")
    call.fields.finish()
    invoice = _in_status(world, call, "draft")
    if advance is not None:
        invoice["auto_advance"] = advance
    with world.at(_now(world, invoice)):
        finalize(world, invoice)
        if invoice["status"] == "open" and invoice["auto_advance"]:
            collect_or_dun(world, invoice)
    return invoice


def pay(world: World, call: Call) -> Json:
    """Pay an open invoice now: 402 if the card is declined."""
    fields = call.fields
    out_of_band = fields.flag("paid_out_of_band") or False
    fields.ignore("payment_method", "off_session", "forgive", "source", "mandate")
    fields.finish()
    invoice = world.find(KIND, call.id)
    if invoice["status"] == "paid":
        raise Refusal("Invoice is already paid", stripe_code="invoice_already_paid")
    if invoice["status"] not in {"open", "uncollectible"}:
        raise Refusal(f"This invoice is {invoice['status']} and cannot be paid.")
    with world.at(_now(world, invoice)):
        if out_of_band:
            mark_paid(world, invoice, out_of_band=True)
        elif not collect_or_dun(world, invoice):
            customer = world.table("customer")[invoice["customer"]]
            raise CardDeclined(
                decline_reason(card_for(world, customer, subscription_of(world, invoice)))
                or "generic_decline"
            )
    return invoice


def void_now(world: World, call: Call) -> Json:
    """Void an open invoice."""
    call.fields.finish()
    invoice = _in_status(world, call, "open", "uncollectible")
    void(world, invoice)
    return invoice


def write_off(world: World, call: Call) -> Json:
    """Mark an open invoice as uncollectible."""
    call.fields.finish()
    invoice = _in_status(world, call, "open")
    mark_uncollectible(world, invoice)
    return invoice


def preview(world: World, call: Call) -> Json:
    """Show the next invoice of a subscription as it would be now, or after the changes given; nothing is kept."""
    fields = call.fields
    subscription = _previewed(world, fields)
    customer = world.live_customer(subscription["customer"])
    lines = _changed_lines(world, fields, subscription, world.now_of(customer))
    fields.ignore("preview_mode", "customer")
    fields.finish()
    start, end = period_of(subscription)
    identifier = f"upcoming_{subscription['id']}"
    invoice = blank_invoice(
        identifier,
        customer,
        subscription,
        currency=subscription["currency"],
        reason="upcoming",
        period=(start, end),
        now=world.now_of(customer),
    )
    invoice["next_payment_attempt"] = end + world.settings.finalization_grace_s
    if not subscription["cancel_at_period_end"]:
        recurring = subscription["items"]["data"][0]["price"]["recurring"]
        following = boundary_after(subscription["billing_cycle_anchor"], recurring, end)
        lines += flat_lines(world, subscription, end, following)
    for stretch in open_usage(world, subscription, end):
        lines += usage_lines(world, subscription, stretch)
    for item in pending_items(world, customer["id"], subscription["currency"], subscription):
        lines.append(item_line(world, item))
    set_lines(invoice, [write_line(spec, identifier) for spec in lines])
    return invoice


def _previewed(world: World, fields: Fields) -> Json:
    """Find the subscription to preview: the one named, else the only one of the customer."""
    named, customer = fields.text("subscription"), fields.text("customer")
    if named:
        return world.find("subscription", named, param="subscription")
    live = [
        subscription
        for subscription in world.table("subscription").values()
        if subscription["customer"] == customer and subscription["status"] in {"active", "past_due", "unpaid"}
    ]
    if len(live) != 1:
        raise Refusal("No upcoming invoices for customer", stripe_code="invoice_upcoming_none", status=404)
    return live[0]


def _changed_lines(world: World, fields: Fields, subscription: Json, now: int) -> list[LineSpec]:
    group = fields.group("subscription_details")
    if group is None:
        return []
    changes = read_changes(world, group, subscription)
    prorate = group.choice("proration_behavior", "create_prorations", "always_invoice", "none") != "none"
    at = group.integer("proration_date") or now
    return proration_lines(world, subscription, changes, at=at, prorate=prorate)


def _in_status(world: World, call: Call, *wanted: str) -> Json:
    invoice = world.find(KIND, call.id)
    if invoice["status"] not in wanted:
        raise Refusal(
            f"This invoice is {invoice['status']}; it must be {' or '.join(wanted)}.",
            stripe_code="invoice_not_editable" if "draft" in wanted else None,
        )
    return invoice


def _now(world: World, invoice: Json) -> int:
    return world.now_of(world.table("customer").get(invoice["customer"]))


ROUTES = [
    Route("POST", "/v1/invoices", create),
    Route("GET", "/v1/invoices", list_invoices),
    Route("POST", "/v1/invoices/create_preview", preview),
    Route("GET", "/v1/invoices/{invoice}", retrieve),
    Route("POST", "/v1/invoices/{invoice}", update),
    Route("DELETE", "/v1/invoices/{invoice}", delete),
    Route("GET", "/v1/invoices/{invoice}/lines", list_lines),
    Route("POST", "/v1/invoices/{invoice}/finalize", finalize_now),
    Route("POST", "/v1/invoices/{invoice}/pay", pay),
    Route("POST", "/v1/invoices/{invoice}/void", void_now),
    Route("POST", "/v1/invoices/{invoice}/mark_uncollectible", write_off),
]
