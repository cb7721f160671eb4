"""Comparing a draft invoice with what was sent: it was fetched for its event anyway, so the proof costs no read."""

from collections import Counter
from datetime import datetime
from decimal import Decimal

from billing.invoices import store
from billing.invoices.model import Invoice
from billing.reconcile.service import compare_lines
from billing.stripe.invoices import MeteredLine
from gateway.clock import Clock
from gateway.db.pool import Pool
from gateway.units import Currency

DRAFT = "draft"


async def compare_draft(db: Pool, clock: Clock, invoice: Invoice) -> int:
    """Compare the usage on a draft with our batches; return how many periods were compared."""
    if invoice.status != DRAFT:
        return 0
    price_ids = {line.price_id for line in invoice.lines if line.price_id is not None}
    lines = usage_on(invoice, await store.metered_prices(db, price_ids))
    if lines:
        await compare_lines(db, clock, lines)
    return len(lines)


def usage_on(invoice: Invoice, metered: frozenset[str]) -> list[MeteredLine]:
    """Sum what an invoice has counted at prices for usage, period by period; tiers are lines of one period."""
    counted: Counter[tuple[datetime, datetime]] = Counter()
    for line in invoice.lines:
        if line.price_id in metered and line.quantity is not None:
            counted[line.period_start, line.period_end] += int(Decimal(line.quantity))
    return [
        MeteredLine(
            invoice_id=invoice.invoice_id,
            customer_id=invoice.customer_id,
            currency=Currency(invoice.currency),
            start=start,
            end=end,
            quantity=quantity,
        )
        for (start, end), quantity in counted.items()
    ]
