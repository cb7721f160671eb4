"""An invoice as Stripe last told it, for pages and for comparing; amounts are Stripe's minor units (Rp 1 is 100)."""

from datetime import datetime
from uuid import UUID

import msgspec

from gateway.errors import NusagateError


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line: its amount in minor units, and the price and the exact quantity where it has one."""

    description: str
    amount_minor: int
    quantity: str | None
    price_id: str | None
    period_start: datetime
    period_end: datetime
    proration: bool


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice; the total is before credit on the customer's balance, the amount due after."""

    invoice_id: str
    account_id: UUID
    customer_id: str
    subscription_id: str | None
    number: str | None
    status: str
    billing_reason: str | None
    currency: str
    period_start: datetime
    period_end: datetime
    total: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    attempt_count: int
    next_attempt_at: datetime | None
    created_at: datetime
    finalized_at: datetime | None
    paid_at: datetime | None
    hosted_url: str | None
    pdf_url: str | None
    lines: tuple[InvoiceLine, ...]
    asked_at: datetime


class InvoiceNotFound(NusagateError):
    """There is no such invoice."""

    code = "invoice_not_found"
