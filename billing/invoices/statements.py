"""Making the statement of a month: what the ledger says, under the price books of then, beside what Stripe bills."""

from datetime import datetime, timedelta
from uuid import UUID

from billing.credit import store as credit
from billing.invoices import store
from billing.invoices.model import Invoice
from billing.invoices.statement import Statement, compose, model_line, plan_lines, stripe_usage
from gateway.accounts import service as accounts
from gateway.clock import Month, month_end, month_of, month_start
from gateway.db.pool import Db
from gateway.errors import InvalidValue
from gateway.prices.service import BookCache

BILLED_WITHIN = timedelta(days=35)
"""A month's usage is on the invoice that is made when it ends, and final three days later at the latest."""


async def statement_of(db: Db, account_id: UUID, period: Month) -> Statement:
    """Make an account's statement of a month; one of a month that is not over shows it so far.

    ``AccountNotFound``, or ``InvalidValue`` if the month is not written ``2026-11``.
    """
    period, start, end = _bounds(period)
    account = await accounts.get(db, account_id)
    books = BookCache()
    usage = [
        (row.billable, model_line(row, await books.get(db, row.book_id)))
        for row in await store.usage_of(db, account_id, start, end)
        if row.currency is account.currency
    ]
    invoices = await store.invoices_between(db, account_id, start, end + BILLED_WITHIN)
    metered = await store.metered_prices(db, _price_ids(invoices))
    month = await store.find_period(db, period)
    billed = stripe_usage(invoices, metered, start, end)
    credited = await store.credited_in(db, account_id, account.currency, start, end)
    return compose(
        account_id=account_id,
        email=account.email,
        period=period,
        currency=account.currency,
        closed_at=month.closed_at if month else None,
        usage=usage,
        corrections=await store.corrections_of(db, account_id, account.currency, start, end),
        credit_pico=await credit.drawn_in(db, account_id, period),
        written_off_pico=await store.written_off_in(db, account_id, account.currency, start, end),
        plan=plan_lines(invoices, metered, start, end),
        stripe_usage_minor=None if billed is None else billed - credited,
    )


def _bounds(period: Month) -> tuple[Month, datetime, datetime]:
    """Return a month as tables name it, 2026-01 for 2026-1, its first moment and that of the next."""
    try:
        start = month_start(period)
        return month_of(start), start, month_end(month_of(start))
    except ValueError:
        raise InvalidValue(f"A month is written like 2026-11, not {period!r}.", param="period") from None


def _price_ids(invoices: list[Invoice]) -> set[str]:
    return {line.price_id for invoice in invoices for line in invoice.lines if line.price_id is not None}
