"""Invoices in Postgres."""

from uuid import UUID

import msgspec

from billing.invoices.model import Invoice, InvoiceLine
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries

QUERIES = load_queries("billing.invoices")
LINES = msgspec.json.Decoder(tuple[InvoiceLine, ...])


async def save(db: Db, invoice: Invoice) -> None:
    """Write an invoice, unless Stripe told something newer."""
    columns = msgspec.structs.asdict(invoice)
    columns["lines"] = msgspec.json.encode(invoice.lines).decode()
    await db.execute(QUERIES["save_invoice"], *columns.values())


async def delete(db: Db, invoice_id: str) -> None:
    """Forget an invoice that Stripe does not have any more."""
    await db.execute(QUERIES["delete_invoice"], invoice_id)


async def list_invoices(
    db: Db, *, account_id: UUID | None, status: str | None = None, limit: int
) -> list[Invoice]:
    """Read invoices of an account, or of everybody, newest first."""
    rows = await db.fetch(QUERIES["list_invoices"], account_id, status, limit)
    return [_invoice(row) for row in rows]


def _invoice(row: Row) -> Invoice:
    return Invoice(**{**row, "lines": LINES.decode(row["lines"])})
