"""Invoices, the sums of statements, and months in Postgres."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec

from billing.invoices.model import BilledUsage, Invoice, InvoiceLine, MonthState, PeriodRow, PeriodTotal
from billing.invoices.statement import CorrectionLine, UsageSum
from billing.stripe.money import STRIPE_MONEY
from gateway.clock import Month
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.prices.model import TokenClass
from gateway.units import AmountPico, Currency, TokenCounts

QUERIES = load_queries("billing.invoices")
LINES = msgspec.json.Decoder(tuple[InvoiceLine, ...])
MONTH_TIMEOUT_S = 120
"""Some questions read a whole month; nobody waits for their answers."""


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


async def invoices_between(db: Db, account_id: UUID, start: datetime, end: datetime) -> list[Invoice]:
    """Read an account's invoices that were made in [start, end), oldest first."""
    return [_invoice(row) for row in await db.fetch(QUERIES["invoices_between"], account_id, start, end)]


async def find_invoice(db: Db, account_id: UUID, invoice_id: str) -> Invoice | None:
    """Read an invoice of an account; ``None`` for one that is not there, or somebody else's."""
    row = await db.fetchrow(QUERIES["find_invoice"], invoice_id, account_id)
    return _invoice(row) if row else None


async def months_of(db: Db, account_id: UUID, limit: int) -> list[Month]:
    """Read the months in which an account used anything, newest first."""
    return [Month(row["period"]) for row in await db.fetch(QUERIES["months_of"], account_id, limit)]


async def metered_prices(db: Db, price_ids: Collection[str]) -> frozenset[str]:
    """Choose those of some prices that bill usage."""
    rows = await db.fetch(QUERIES["metered_prices"], list(price_ids))
    return frozenset(row["price_id"] for row in rows)


async def usage_of(db: Db, account_id: UUID, start: datetime, end: datetime) -> list[UsageSum]:
    """Sum what an account used in [start, end), by model and price book."""
    rows = await db.fetch(QUERIES["statement_usage"], account_id, start, end)
    return [
        UsageSum(
            currency=Currency(row["currency"]),
            billable=row["billable"],
            book_id=row["book_id"],
            model=row["model"],
            requests=row["requests"],
            counts=TokenCounts(**{name.value: row[name.value] for name in TokenClass}),
            amount_pico=AmountPico(int(row["amount_pico"])),
        )
        for row in rows
    ]


async def corrections_of(
    db: Db, account_id: UUID, currency: Currency, start: datetime, end: datetime
) -> list[CorrectionLine]:
    """Sum what was put right for an account in [start, end), in one currency."""
    rows = await db.fetch(QUERIES["statement_corrections"], account_id, start, end)
    return [
        CorrectionLine(
            kind=row["kind"],
            reason=row["reason"],
            model=row["model"],
            entries=row["entries"],
            amount_pico=AmountPico(int(row["amount_pico"])),
        )
        for row in rows
        if row["currency"] == currency
    ]


async def find_period(db: Db, period: Month) -> PeriodRow | None:
    """Read how far a month is; ``None`` if nobody has looked at it yet."""
    row = await db.fetchrow(QUERIES["find_period"], period)
    return _period(row) if row else None


async def list_periods(db: Db, limit: int) -> list[PeriodRow]:
    """Read how far months are, newest first."""
    return [_period(row) for row in await db.fetch(QUERIES["list_periods"], limit)]


async def lock_period(connection: Connection, period: Month, now: datetime) -> MonthState:
    """Hold a month until the transaction ends and return how far it is; one that nobody has looked at is open."""
    await connection.execute(QUERIES["open_period"], period, now)
    return MonthState(await connection.fetchval(QUERIES["lock_period"], period))


async def move_period(connection: Connection, period: Month, state: MonthState, now: datetime) -> None:
    """Let a month move on."""
    await connection.execute(QUERIES["move_period"], period, state, now)


async def close_period(
    connection: Connection, period: Month, *, entries: int, totals_sha256: str, now: datetime
) -> None:
    """Make a month history."""
    await connection.execute(QUERIES["close_period"], period, now, entries, totals_sha256)


async def first_period(db: Db) -> Month | None:
    """Read the first month that anything was used in."""
    period: str | None = await db.fetchval(QUERIES["first_period"])
    return Month(period) if period else None


async def count_open_requests(db: Db, period: Month) -> int:
    """Count a month's requests that have not ended."""
    return int(await db.fetchval(QUERIES["count_open_requests"], period))


async def count_between(db: Db, question: str, start: datetime, end: datetime) -> int:
    """Count what stands in a month's way: ``unbatched``, ``unconfirmed``, ``findings`` or ``drafts``."""
    return int(await db.fetchval(QUERIES[f"count_{question}"], start, end, timeout=MONTH_TIMEOUT_S))


async def billed_usage(db: Db, period: Month, start: datetime, end: datetime) -> list[BilledUsage]:
    """Read what each account's usage of a month came to, and what final invoices bill for it."""
    rows = await db.fetch(QUERIES["billed_usage"], period, start, end, timeout=MONTH_TIMEOUT_S)
    return [
        BilledUsage(
            account_id=row["account_id"],
            currency=Currency(row["currency"]),
            amount_pico=_owed(row),
            billed_minor=row["billed_minor"],
        )
        for row in rows
    ]


async def accept_findings(db: Db, account_id: UUID, start: datetime, end: datetime, now: datetime) -> None:
    """Close what comparisons found on an account's invoices of [start, end): an operator has accepted it."""
    await db.execute(QUERIES["accept_findings"], account_id, start, end, now)


async def written_off_in(db: Db, account_id: UUID, currency: Currency, start: datetime, end: datetime) -> int:
    """Return what of a month's usage was written off, in pico-currency."""
    units = await db.fetchval(QUERIES["written_off_in"], account_id, currency, start, end)
    return int(units) * STRIPE_MONEY[currency].meter_unit_pico


async def credited_in(db: Db, account_id: UUID, currency: Currency, start: datetime, end: datetime) -> int:
    """Return what of a month's invoices was made good by credit, in minor units."""
    minor: int = await db.fetchval(QUERIES["credited_in"], account_id, currency, start, end)
    return minor


async def period_totals(db: Db, period: Month) -> list[PeriodTotal]:
    """Read what a month comes to, account by account."""
    rows = await db.fetch(QUERIES["period_totals"], period, timeout=MONTH_TIMEOUT_S)
    return [PeriodTotal(**{**row, "amount_pico": int(row["amount_pico"])}) for row in rows]


async def count_entries(db: Db, period: Month, start: datetime, end: datetime) -> int:
    """Count a month's entries."""
    return int(await db.fetchval(QUERIES["count_entries"], period, start, end, timeout=MONTH_TIMEOUT_S))


def _invoice(row: Row) -> Invoice:
    return Invoice(**{**row, "lines": LINES.decode(row["lines"])})


def _period(row: Row) -> PeriodRow:
    return PeriodRow(**{**row, "state": MonthState(row["state"])})


def _owed(row: Row) -> int:
    """Return what is left to be billed; what was paid from credit before it was written off is not taken off twice."""
    money = STRIPE_MONEY[Currency(row["currency"])]
    amount_pico = int(row["cum_pico"]) - money.whole_units_pico(int(row["drawn_pico"]))
    written_off_pico = int(row["written_off_units"]) * money.meter_unit_pico
    return amount_pico - min(written_off_pico, max(amount_pico, 0))
