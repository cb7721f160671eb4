"""Taking in an invoice: fetched anew whatever event named it, with all its lines."""

from datetime import datetime
from typing import Any
from uuid import UUID

import stripe as sdk_types

from billing.customers import service as customers
from billing.invoices import store
from billing.invoices.model import Invoice, InvoiceLine
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeMissing
from billing.subscriptions import store as subscriptions
from billing.subscriptions.remote import id_of, moment, moment_or_none
from gateway.db.pool import Db

LINES_PAGE = 100
LINES_MAX = 1_000


async def refresh_invoice(db: Db, stripe: Stripe, invoice_id: str) -> Invoice | None:
    """Fetch an invoice and keep it; ``None`` where it is gone, or nobody's of ours. Raises a ``StripeError``."""
    asked_at = await subscriptions.moment(db)
    try:
        raw = await stripe.read(lambda sdk: sdk.v1.invoices.retrieve_async(invoice_id))
    except StripeMissing:
        await store.delete(db, invoice_id)
        return None
    subscription_id = _subscription_of(raw)
    account_id = await _owner(db, id_of(raw.customer) if raw.customer else None, subscription_id)
    if account_id is None:
        return None
    lines = await _all_lines(stripe, raw)
    invoice = read_invoice(raw, lines, account_id, subscription_id, asked_at)
    await store.save(db, invoice)
    return invoice


def read_invoice(
    raw: sdk_types.Invoice,
    lines: list[sdk_types.InvoiceLineItem],
    account_id: UUID,
    subscription_id: str | None,
    asked_at: datetime,
) -> Invoice:
    """Put what Stripe said into our own words."""
    turns = raw.status_transitions
    return Invoice(
        invoice_id=str(raw.id),
        account_id=account_id,
        customer_id=id_of(raw.customer),
        subscription_id=subscription_id,
        number=raw.number,
        status=raw.status or "draft",
        billing_reason=raw.billing_reason,
        currency=raw.currency,
        period_start=moment(raw.period_start),
        period_end=moment(raw.period_end),
        total=raw.total,
        amount_due=raw.amount_due,
        amount_paid=raw.amount_paid,
        amount_remaining=raw.amount_remaining,
        attempt_count=raw.attempt_count,
        next_attempt_at=moment_or_none(raw.next_payment_attempt),
        created_at=moment(raw.created),
        finalized_at=moment_or_none(turns.finalized_at),
        paid_at=moment_or_none(turns.paid_at),
        hosted_url=raw.hosted_invoice_url,
        pdf_url=raw.invoice_pdf,
        lines=tuple(_line(line) for line in lines),
        asked_at=asked_at,
    )


async def _owner(db: Db, customer_id: str | None, subscription_id: str | None) -> UUID | None:
    """Find whose an invoice is: its customer's, or, where another customer took over, its subscription's."""
    owner = await customers.account_of(db, customer_id) if customer_id else None
    if owner is None and subscription_id is not None:
        owner = await subscriptions.find_owner(db, subscription_id)
    return owner


async def _all_lines(stripe: Stripe, raw: sdk_types.Invoice) -> list[sdk_types.InvoiceLineItem]:
    """Return all lines; an invoice itself brings its first ten."""
    lines = list(raw.lines.data)
    has_more = raw.lines.has_more
    while has_more and len(lines) < LINES_MAX:
        page = await _page(stripe, str(raw.id), lines[-1].id)
        lines += page.data
        has_more = page.has_more
    return lines


async def _page(
    stripe: Stripe, invoice_id: str, after: str
) -> sdk_types.ListObject[sdk_types.InvoiceLineItem]:
    return await stripe.read(
        lambda sdk: sdk.v1.invoices.line_items.list_async(
            invoice_id, {"limit": LINES_PAGE, "starting_after": after}
        )
    )


def _line(raw: sdk_types.InvoiceLineItem) -> InvoiceLine:
    pricing = raw.pricing
    details = pricing.price_details if pricing else None
    return InvoiceLine(
        description=raw.description or "",
        amount_minor=raw.amount,
        quantity=_quantity(raw),
        price_id=id_of(details.price) if details else None,
        period_start=moment(raw.period.start),
        period_end=moment(raw.period.end),
        proration=_is_proration(raw.parent),
    )


def _quantity(raw: sdk_types.InvoiceLineItem) -> str | None:
    """Return the exact quantity; ``quantity`` alone is cut to a whole number."""
    exact: Any = getattr(raw, "quantity_decimal", None)
    if exact is not None:
        return f"{exact:f}" if not isinstance(exact, str) else exact
    return None if raw.quantity is None else str(raw.quantity)


def _is_proration(parent: Any) -> bool:
    if parent is None:
        return False
    details = parent.subscription_item_details or parent.invoice_item_details
    return bool(details and details.proration)


def _subscription_of(raw: sdk_types.Invoice) -> str | None:
    details = raw.parent.subscription_details if raw.parent else None
    return id_of(details.subscription) if details else None
