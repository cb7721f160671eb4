"""Setting caps, and keeping the limits that follow from them close to what was spent."""

from datetime import datetime
from uuid import UUID

from billing.caps import store
from billing.caps.alerts import warn_of_cap
from billing.caps.model import (
    CapView,
    NoCap,
    SpendCap,
    Spending,
    guard_of,
    is_worth_writing,
    rates_until,
)
from billing.credit.store import months_around
from gateway.accounts import service as accounts
from gateway.clock import Clock, month_end, month_of
from gateway.db.pool import Connection, Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import FIRST_UUID
from gateway.plans.model import LIMIT_MAX
from gateway.units import PICO_PER_MICRO, AmountPico, Currency, format_amount

PAGE = 500


async def set_cap(connection: Connection, clock: Clock, account_id: UUID, cap: SpendCap) -> CapView:
    """Cap what an account may spend in a month, from now on; the caller holds the transaction.

    ``AccountNotFound``, or ``InvalidValue`` for a cap without a number or with one that is out of range.
    """
    given = [limit for limit in (cap.monthly_tokens, cap.monthly_micro) if limit is not None]
    if not given or not all(0 <= limit <= LIMIT_MAX for limit in given):
        raise InvalidValue(f"A cap needs tokens or an amount, from 0 to {LIMIT_MAX:,}.", param="cap")
    await accounts.get(connection, account_id)
    await store.save_cap(connection, account_id, cap, period=month_of(clock.now()), now=clock.now())
    await _guard(connection, clock, account_id)
    return await show(connection, clock, account_id)


async def remove_cap(db: Db, clock: Clock, account_id: UUID) -> None:
    """Let an account spend what it likes; ``NoCap`` if nothing kept it from that."""
    if not await store.delete_cap(db, account_id):
        raise NoCap
    await _guard(db, clock, account_id)


async def guard_credit(connection: Connection, clock: Clock, account_id: UUID) -> None:
    """Let an account use what its credit is worth, from now on; the caller holds the transaction."""
    await store.close_guard(connection, account_id, period=month_of(clock.now()), now=clock.now())
    await _guard(connection, clock, account_id)


async def find_cap(db: Db, clock: Clock, account_id: UUID) -> SpendCap | None:
    """Read the cap of an account, if it has one."""
    spending = await _one(db, clock, account_id)
    return spending.cap if spending else None


async def show(db: Db, clock: Clock, account_id: UUID) -> CapView:
    """Show a cap and what is used of it; ``NoCap``."""
    spending = await _one(db, clock, account_id)
    if spending is None or spending.cap is None:
        raise NoCap
    period = month_of(clock.now())
    micro = spending.cap.monthly_micro
    return CapView(
        account_id=account_id,
        currency=spending.currency,
        period=period,
        monthly_tokens=spending.cap.monthly_tokens,
        monthly_amount=None if micro is None else format_amount(AmountPico(micro * PICO_PER_MICRO)),
        used_tokens=spending.used_tokens,
        spent_amount=format_amount(spending.billable_pico),
        limit_tokens=spending.guard.limit(clock.now()),
        resets_at=month_end(period),
    )


async def keep_caps(db: Pool, clock: Clock) -> int:
    """Bring the limits of all guarded accounts up to date and send the alerts that are due; return how many moved."""
    moved = 0
    now = clock.now()
    rates = await _rates(db, now)
    after = FIRST_UUID
    while page := await store.spending(db, rates, months=months_around(now), after=after, limit=PAGE):
        for spending in page:
            moved += await _keep(db, spending, now)
        after = page[-1].account_id
    return moved


async def _keep(db: Pool, spending: Spending, now: datetime) -> bool:
    wanted = guard_of(spending, now)
    is_moved = is_worth_writing(spending, wanted)
    if is_moved:
        await store.save_guard(db, spending.account_id, wanted, now)
    await warn_of_cap(db, spending, now)
    return is_moved


async def _guard(db: Db, clock: Clock, account_id: UUID) -> None:
    """Write the limit that follows from an account's cap and credit at this moment."""
    spending = await _one(db, clock, account_id)
    if spending is not None:
        await store.save_guard(db, account_id, guard_of(spending, clock.now()), clock.now())


async def _one(db: Db, clock: Clock, account_id: UUID) -> Spending | None:
    now = clock.now()
    rates = await _rates(db, now)
    found = await store.spending(db, rates, months=months_around(now), account_id=account_id, limit=1)
    return found[0] if found else None


async def _rates(db: Db, now: datetime) -> dict[Currency, int]:
    return await store.rates_max(db, now, rates_until(now))
