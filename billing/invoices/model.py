"""An invoice as Stripe last told it, for pages and for comparing; amounts are Stripe's minor units (Rp 1 is 100)."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.clock import Month
from gateway.errors import NusagateError
from gateway.units import Currency


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


class MonthState(StrEnum):
    """How far a month is on its way to being history."""

    OPEN = "open"
    """It is not over, or nobody has looked since it was."""
    CLOSING = "closing"
    """It is over; its last usage is on its way to Stripe."""
    RECONCILED = "reconciled"
    """Stripe's sums prove that all of its usage arrived; its invoices are not final."""
    CLOSED = "closed"
    """Ledger and invoices agree to the minor unit, and no entry can be added."""


class PeriodRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a month is, and what it came to when it was closed."""

    period: Month
    state: MonthState
    changed_at: datetime
    closed_at: datetime | None
    entries: int | None
    totals_sha256: str | None


class BilledUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What an account's usage of a month came to, and what final invoices bill for it in minor units."""

    account_id: UUID
    currency: Currency
    amount_pico: int
    billed_minor: int


class NothingToAccept(NusagateError):
    """There is no difference of this account in the month, or not yet."""

    code = "nothing_to_accept"


class PeriodTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What one account used in a month."""

    account_id: UUID
    currency: str
    requests: int
    input_tokens: int
    output_tokens: int
    quota_tokens: int
    amount_pico: int


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a month from moving on, and how much of it there is."""

    code: str
    count: int
    detail: str
