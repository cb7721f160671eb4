"""Making accounts, and changing what they may do; every change reaches all gateways within a second."""

from collections.abc import Collection
from uuid import UUID

from gateway.accounts import store
from gateway.accounts.model import (
    Account,
    AccountNotFound,
    AccountStatus,
    EmailTaken,
    LimitName,
    Overrides,
    effective_limits,
    normalise_email,
)
from gateway.clock import Clock
from gateway.db.pool import Db
from gateway.ids import uuid7
from gateway.plans.model import AccountLimits
from gateway.units import Currency


async def create(db: Db, clock: Clock, *, email: str, plan_id: str, currency: Currency) -> Account:
    """Make an account; ``EmailTaken``, ``PlanNotFound``, or ``InvalidValue`` for an address that is none."""
    account_id = uuid7()
    address = normalise_email(email)
    written = await store.insert_account(
        db, account_id, email=address, plan_id=plan_id, currency=currency, created_at=clock.now()
    )
    if not written:
        raise EmailTaken(f"An account with the address {address} exists already.", param="email")
    return await get(db, account_id)


async def find(db: Db, account_id: UUID) -> Account | None:
    """Read an account; ``None`` if there is none with this id."""
    return await store.fetch_account(db, account_id)


async def get(db: Db, account_id: UUID) -> Account:
    """Read an account; ``AccountNotFound`` if there is none with this id."""
    account = await find(db, account_id)
    if account is None:
        raise _not_found(account_id)
    return account


async def list_accounts(db: Db, *, after: UUID | None, limit: int) -> list[Account]:
    """Read at most ``limit`` accounts, oldest first; ``after`` is the last account of the page before."""
    return await store.fetch_accounts(db, after=after, limit=limit)


async def set_plan(db: Db, account_id: UUID, plan_id: str) -> Account:
    """Move an account to another plan; ``AccountNotFound`` or ``PlanNotFound``."""
    return await _changed(db, account_id, found=await store.set_plan(db, account_id, plan_id))


async def set_status(db: Db, account_id: UUID, status: AccountStatus) -> Account:
    """Suspend an account, ask it for payment, or let it work again; ``AccountNotFound``."""
    return await _changed(db, account_id, found=await store.set_status(db, account_id, status))


async def set_limits(
    db: Db, account_id: UUID, *, overrides: Overrides, removed: Collection[LimitName] = ()
) -> Account:
    """Set limits for this account alone, and give the ``removed`` ones back to its plan.

    ``AccountNotFound``, or ``InvalidValue`` for a limit that is out of range.
    """
    effective_limits(AccountLimits(), overrides)
    return await _changed(db, account_id, found=await store.set_limits(db, account_id, overrides, removed))


async def _changed(db: Db, account_id: UUID, *, found: bool) -> Account:
    if not found:
        raise _not_found(account_id)
    return await get(db, account_id)


def _not_found(account_id: UUID) -> AccountNotFound:
    return AccountNotFound(f"There is no account {account_id}.", param="account")
