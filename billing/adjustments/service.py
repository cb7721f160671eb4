"""Adjusting what an account owes or has used, in the current month and with a reason.

An adjustment is an entry like any other: it stands on the statement as a line, and reaches Stripe through the outbox.
"""

from uuid import UUID

from billing.adjustments import store
from billing.adjustments.model import Adjusted, Adjustment, Standing, check
from billing.books.store import lock_gates
from gateway.accounts.model import AccountNotFound
from gateway.clock import Clock, month_of
from gateway.db.pool import Connection
from gateway.prices import service as prices
from gateway.rollup import service as rollup
from gateway.units import AmountPico, format_amount


async def adjust(
    connection: Connection, clock: Clock, account_id: UUID, adjustment: Adjustment, *, apply: bool
) -> Adjusted:
    """Adjust an account's month, as a dry run unless ``apply``; the caller holds the transaction.

    ``AccountNotFound``, or ``NotAdjustable``.
    """
    await lock_gates(connection, [account_id])
    found = await store.standing(connection, account_id, clock.now())
    if found is None:
        raise AccountNotFound(f"There is no account {account_id}.")
    check(found, adjustment)
    if apply:
        await write(connection, clock, found, adjustment)
    return Adjusted(
        applied=apply,
        entry_id=adjustment.entry_id if apply else None,
        account_id=account_id,
        period=month_of(clock.now()),
        currency=found.currency,
        amount=format_amount(AmountPico(adjustment.amount_pico)),
        tokens=adjustment.tokens,
        spent_before=format_amount(found.spent_pico),
        spent_after=format_amount(AmountPico(found.spent_pico + adjustment.amount_pico)),
        used_tokens_before=found.used_tokens,
        used_tokens_after=found.used_tokens + adjustment.tokens,
    )


async def write(connection: Connection, clock: Clock, standing: Standing, adjustment: Adjustment) -> None:
    """Write an adjustment that was checked, by the price book of now; the caller holds the gate."""
    now = clock.now()
    books = await prices.books_at(connection, now, standing.currency)
    await store.write(connection, standing, adjustment, book_id=books[0].book_id if books else "", now=now)
    await rollup.follow(connection, [standing.account_id], now)
