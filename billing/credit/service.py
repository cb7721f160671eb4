"""Crediting accounts, and drawing what they use.

Usage is paid from credit while no subscription pays for it. An account with credit is on the plan that is paid by use;
when its credit is used up it falls back to the free plan, and paying in more brings it back.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from billing.caps import service as caps
from billing.credit import store
from billing.credit.model import POST_EVERY_S, CreditView, MonthOfUse, NoCredit, Side, Transfer
from billing.subscriptions.entitlements import apply_entitlement_in
from gateway.accounts import service as accounts
from gateway.clock import Clock, format_utc_exact, month_of
from gateway.db.pool import Connection, Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import FIRST_UUID
from gateway.ledger.model import InvariantCheck
from gateway.runtime import metrics
from gateway.units import AmountPico, format_amount

INVARIANT = "credit sums to zero and is not overdrawn"
LATEST = 50
PAGE = 500


async def credit(connection: Connection, clock: Clock, transfer: Transfer, grace: timedelta) -> bool:
    """Move credit to an account, or back, and let its plan and its limit follow; ``False`` if it happened before.

    The caller holds the transaction. ``AccountNotFound``, ``CreditCurrencyMismatch``, or ``InvalidValue`` for nothing,
    and for more taken back than there is.
    """
    account = await accounts.get(connection, transfer.owner_id)
    if transfer.amount_pico == 0:
        raise InvalidValue("There is nothing to transfer.", param="amount")
    if transfer.amount_pico < 0:
        left = await store.left(connection, account.account_id, clock.now())
        if left is None or left + transfer.amount_pico < 0:
            raise InvalidValue("The account has less credit than that.", param="amount")
    if not await store.post(connection, transfer, clock.now()):
        return False
    await apply_entitlement_in(connection, clock, account.account_id, grace)
    await caps.guard_credit(connection, clock, account.account_id)
    return True


async def show(db: Db, clock: Clock, account_id: UUID) -> CreditView:
    """Show what an account has left, and its latest entries; ``NoCredit``."""
    balance = await store.find_balance(db, account_id)
    left = await store.left(db, account_id, clock.now())
    if balance is None or left is None:
        raise NoCredit
    return CreditView(
        account_id=account_id,
        currency=balance[1],
        balance=format_amount(AmountPico(left)),
        latest=tuple(await store.latest_entries(db, balance[0], LATEST)),
    )


async def draw_all(db: Pool, clock: Clock, grace: timedelta, of_plans: Clock) -> None:
    """Take in what prepaid accounts have used; once an hour, and when a month is over, it is written into the journal.

    Plans follow by their own clock, which a sandbox may have moved ahead.
    """
    after = FIRST_UUID
    while page := await store.balances_page(db, after=after, limit=PAGE):
        for account_id in page:
            async with db.acquire() as connection, connection.transaction():
                await _draw(connection, clock, account_id)
                await apply_entitlement_in(connection, of_plans, account_id, grace)
        after = page[-1]


async def verify(db: Db) -> InvariantCheck:
    """Check that no transfer makes money and no balance is below zero, and publish it as a metric."""
    violations = await store.count_violations(db)
    metrics.ledger_violations.labels(INVARIANT).set(violations)
    return InvariantCheck(invariant=INVARIANT, ok=violations == 0, violations=violations, detail="credit")


async def _draw(connection: Connection, clock: Clock, account_id: UUID) -> None:
    now = clock.now()
    is_prepaid = not await store.is_subscribed(connection, account_id)
    for month in await store.lock_months(connection, account_id, now):
        prepaid_pico = await store.prepaid_in(connection, account_id, month.period)
        taken = _take_in(month, is_prepaid=is_prepaid, prepaid_pico=prepaid_pico)
        if taken.pending_pico and _is_due(taken, now):
            taken = await _write(connection, account_id, taken, now)
        if taken != month:
            await store.save_month(connection, account_id, taken)


def _take_in(month: MonthOfUse, *, is_prepaid: bool, prepaid_pico: int | None) -> MonthOfUse:
    """Look at what was used since the last time; what a subscription pays for is looked at and left alone.

    In a month that both pay for, ``prepaid_pico`` is all of credit's part. What was taken for that and is Stripe's, because
    we heard of the subscription late, goes back.
    """
    fresh = month.billable_pico - month.seen_pico
    pending = month.pending_pico + (fresh if is_prepaid else 0)
    if prepaid_pico is not None:
        pending = prepaid_pico - month.drawn_pico
    return msgspec.structs.replace(month, seen_pico=month.billable_pico, pending_pico=pending)


def _is_due(month: MonthOfUse, now: datetime) -> bool:
    return month.period != month_of(now) or now - month.posted_at >= timedelta(seconds=POST_EVERY_S)


async def _write(connection: Connection, account_id: UUID, month: MonthOfUse, now: datetime) -> MonthOfUse:
    balance = await store.find_balance(connection, account_id)
    assert balance is not None
    transfer = Transfer(
        key=f"use:{account_id}:{month.period}:{format_utc_exact(month.posted_at)}:{month.seen_pico}:{month.drawn_pico}",
        owner_id=account_id,
        currency=balance[1],
        side=Side.USED,
        amount_pico=-month.pending_pico,
        reason=f"usage of {month.period}",
        actor="billing",
    )
    is_new = await store.post(connection, transfer, now)
    assert is_new
    return msgspec.structs.replace(
        month, pending_pico=0, drawn_pico=month.drawn_pico + month.pending_pico, posted_at=now
    )
