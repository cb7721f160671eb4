"""Draft invoices and what their metered lines have counted so far: the sums that a customer will pay for."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import stripe

from billing.stripe.client import Stripe
from gateway.units import Currency

PAGE = 100


class MeteredLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a draft invoice has counted of a customer's usage in [start, end), in the meter's units."""

    invoice_id: str
    customer_id: str
    currency: Currency
    start: datetime
    end: datetime
    quantity: int


async def draft_lines(client: Stripe, prices: Collection[str], *, pages: int) -> list[MeteredLine]:
    """Read the metered lines of draft invoices, at most ``pages`` reads of 100 invoices each."""
    found: list[MeteredLine] = []
    params: stripe.params.InvoiceListParams = {"status": "draft", "limit": PAGE}
    for _ in range(pages):
        page = await client.read(partial(_list, params))
        for invoice in page.data:
            found += metered_lines(invoice.to_dict(), prices)
        if not page.has_more:
            break
        params = {**params, "starting_after": page.data[-1].id}
    return found


def metered_lines(invoice: Mapping[str, Any], prices: Collection[str]) -> list[MeteredLine]:
    """Find what an invoice, as Stripe writes it, has counted at these prices: one line a period, tiers together."""
    sums: Counter[tuple[int, int]] = Counter()
    for line in invoice["lines"]["data"]:
        if _price_of(line) in prices:
            period = line["period"]
            sums[period["start"], period["end"]] += int(Decimal(str(line["quantity_decimal"])))
    return [
        MeteredLine(
            invoice_id=invoice["id"],
            customer_id=invoice["customer"],
            currency=Currency(invoice["currency"]),
            start=datetime.fromtimestamp(start, UTC),
            end=datetime.fromtimestamp(end, UTC),
            quantity=quantity,
        )
        for (start, end), quantity in sums.items()
    ]


def _price_of(line: Mapping[str, Any]) -> str | None:
    details = (line.get("pricing") or {}).get("price_details") or {}
    price = details.get("price")
    return price["id"] if isinstance(price, Mapping) else price


async def _list(
    params: stripe.params.InvoiceListParams, sdk: stripe.StripeClient
) -> stripe.ListObject[stripe.Invoice]:
    return await sdk.v1.invoices.list_async(params)
