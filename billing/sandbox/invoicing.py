"""The life of an invoice: draft, its lines kept up to date while the grace lasts, finalized, and paid or not.

Usage that reaches the sandbox after an invoice was finalized is on no invoice, neither this one nor the
next: that is what Stripe does, and what reconciliation must notice.
"""

import msgspec

from billing.sandbox import credit_grants
from billing.sandbox.blank_invoice import blank_invoice
from billing.sandbox.charges import charge_card
from billing.sandbox.events import changed, emit
from billing.sandbox.invoice_items import pending_items
from billing.sandbox.invoice_lines import LineSpec, Usage, item_line, usage_lines, write_line
from billing.sandbox.payment_methods import card_for
from billing.sandbox.state import DAY_S, Json
from billing.sandbox.world import World

KIND = "invoice"


def draft_invoice(
    world: World,
    customer: Json,
    subscription: Json | None,
    *,
    currency: str,
    reason: str,
    period: tuple[int, int],
    lines: list[LineSpec],
    usage: list[Usage],
    auto_advance: bool = True,
    grace_s: int | None = None,
    take_pending: bool = True,
) -> Json:
    """Open a draft with these lines, with usage that is counted until it is finalized, and with pending items."""
    identifier = world.new_id("in")
    items = pending_items(world, customer["id"], currency, subscription) if take_pending else []
    for item in items:
        item["invoice"] = identifier
    fixed = [*lines, *(item_line(world, item) for item in items)]
    invoice = world.add(
        blank_invoice(
            identifier,
            customer,
            subscription,
            currency=currency,
            reason=reason,
            period=period,
            now=world.now(),
        )
    )
    invoice["auto_advance"] = auto_advance
    if auto_advance:
        wait_s = world.settings.finalization_grace_s if grace_s is None else grace_s
        invoice["automatically_finalizes_at"] = world.now() + wait_s if wait_s else None
    note = world.note(identifier)
    note["fixed"] = [write_line(spec, identifier) for spec in fixed]
    note["usage"] = [msgspec.to_builtins(stretch) for stretch in usage]
    refresh(world, invoice)
    emit(world, "invoice.created", invoice)
    return invoice


def subscription_of(world: World, invoice: Json) -> Json | None:
    """Return the subscription that an invoice bills."""
    parent = invoice["parent"]
    return world.table("subscription").get(parent["subscription_details"]["subscription"]) if parent else None


def refresh(world: World, invoice: Json) -> Json:
    """Bring a draft up to date with the usage that has come in; any other invoice stays as it is."""
    if invoice["status"] == "draft":
        note = world.note(invoice["id"])
        subscription = subscription_of(world, invoice)
        lines = list(note["fixed"])
        for raw in note["usage"]:
            usage = msgspec.convert(raw, Usage)
            lines += [
                write_line(spec, invoice["id"]) for spec in usage_lines(world, subscription or {}, usage)
            ]
        set_lines(invoice, lines)
    return invoice


def set_lines(invoice: Json, lines: list[Json]) -> None:
    """Give an invoice its lines and the totals that follow from them."""
    invoice["lines"]["data"] = lines
    subtotal = sum(line["amount"] for line in lines)
    due = max(0, subtotal + invoice["starting_balance"])
    invoice.update(
        subtotal=subtotal, subtotal_excluding_tax=subtotal, total=subtotal, total_excluding_tax=subtotal
    )
    invoice.update(amount_due=due, amount_remaining=due)


def drop_usage(world: World, item: str) -> None:
    """Freeze the usage of a changed item on drafts: what comes in their grace is lost, as at Stripe."""
    for invoice in world.table(KIND).values():
        note = world.note(invoice["id"])
        if invoice["status"] != "draft" or not any(raw["item"] == item for raw in note["usage"]):
            continue
        subscription = subscription_of(world, invoice) or {}
        for raw in [raw for raw in note["usage"] if raw["item"] == item]:
            specs = usage_lines(world, subscription, msgspec.convert(raw, Usage))
            note["fixed"] += [write_line(spec, invoice["id"]) for spec in specs]
            note["usage"].remove(raw)


def finalize(world: World, invoice: Json) -> None:
    """Close a draft for good: last usage, credits, balance, number; one that costs nothing is paid at once."""
    refresh(world, invoice)
    customer = world.table("customer")[invoice["customer"]]
    credit_grants.apply_to(world, invoice)
    _apply_balance(world, invoice, customer)
    sequence = customer.get("next_invoice_sequence", 1)
    customer["next_invoice_sequence"] = sequence + 1
    now = world.now()
    invoice.update(
        status="open",
        number=f"{customer.get('invoice_prefix', 'DELETED')}-{sequence:04d}",
        automatically_finalizes_at=None,
        effective_at=now,
        hosted_invoice_url=f"{world.public_url}/i/{invoice['id']}",
        invoice_pdf=f"{world.public_url}/i/{invoice['id']}/pdf",
    )
    invoice["status_transitions"]["finalized_at"] = now
    emit(world, "invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(world, invoice)


def _apply_balance(world: World, invoice: Json, customer: Json) -> None:
    """Use up a customer's credit, or add to it when the invoice is below zero."""
    start = customer.get("balance", 0)
    wanted = invoice["total"] + start
    due = max(0, wanted)
    invoice.update(
        starting_balance=start, ending_balance=min(0, wanted), amount_due=due, amount_remaining=due
    )
    if not customer.get("deleted") and start != min(0, wanted):
        customer["balance"] = min(0, wanted)
        emit(world, "customer.updated", customer, before={"balance": start})


def collect(world: World, invoice: Json, *, at_checkout: bool = False) -> bool:
    """Try to collect an open invoice from the card on file; tell whether it is paid now.

    What a failure does to the subscription is the business of ``dunning``.
    """
    subscription = subscription_of(world, invoice)
    customer = world.table("customer")[invoice["customer"]]
    if customer.get("deleted"):
        return False
    method = card_for(world, customer, subscription)
    invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
    charge = charge_card(
        world,
        customer,
        method,
        amount=invoice["amount_remaining"],
        currency=invoice["currency"],
        at_checkout=at_checkout,
    )
    world.note(charge["id"])["invoice"] = invoice["id"]
    if charge["paid"]:
        world.note(invoice["id"])["charge"] = charge["id"]
        mark_paid(world, invoice)
        return True
    _schedule_retry(world, invoice)
    emit(world, "invoice.payment_failed", invoice)
    return False


def _schedule_retry(world: World, invoice: Json) -> None:
    days = world.settings.payment_retry_days
    number = invoice["attempt_count"] - 1
    again = invoice["auto_advance"] and number < len(days)
    invoice["next_payment_attempt"] = world.now() + days[number] * DAY_S if again else None


def mark_paid(world: World, invoice: Json, *, out_of_band: bool = False) -> None:
    """Close an invoice as paid and let its subscription go on."""
    paid = invoice["amount_due"]
    invoice.update(
        status="paid",
        amount_paid=0 if out_of_band else paid,
        amount_paid_off_stripe=paid if out_of_band else 0,
        amount_remaining=0,
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
    )
    invoice["status_transitions"]["paid_at"] = world.now()
    emit(world, "invoice.paid", invoice)
    emit(world, "invoice.payment_succeeded", invoice)
    _let_go_on(world, subscription_of(world, invoice))


def _let_go_on(world: World, subscription: Json | None) -> None:
    """Make a subscription active once none of its invoices is overdue."""
    if subscription is None or subscription["status"] not in {"incomplete", "past_due", "unpaid"}:
        return
    overdue = [
        invoice
        for invoice in world.table(KIND).values()
        if invoice["status"] == "open" and subscription_of(world, invoice) is subscription
    ]
    if not overdue:
        before = changed(subscription, {"status": "active"})
        emit(world, "customer.subscription.updated", subscription, before=before)


def void(world: World, invoice: Json) -> None:
    """Void an open invoice; credits that it used come back."""
    credit_grants.reinstate(world, invoice)
    invoice.update(status="void", auto_advance=False, next_payment_attempt=None)
    invoice["status_transitions"]["voided_at"] = world.now()
    emit(world, "invoice.voided", invoice)
    _let_go_on(world, subscription_of(world, invoice))


def mark_uncollectible(world: World, invoice: Json) -> None:
    """Write an open invoice off."""
    invoice.update(status="uncollectible", auto_advance=False, next_payment_attempt=None)
    invoice["status_transitions"]["marked_uncollectible_at"] = world.now()
    emit(world, "invoice.marked_uncollectible", invoice)
