"""Accounts in Postgres."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from gateway.accounts.model import Account, AccountStatus, LimitName, Overrides, effective_limits
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries
from gateway.plans.model import AccountLimits, PlanNotFound
from gateway.plans.store import limits_of
from gateway.units import Currency

QUERIES = load_queries("gateway.accounts")
OVERRIDES = msgspec.json.Decoder(dict[LimitName, int | None])


async def insert_account(
    db: Db, account_id: UUID, *, email: str, plan_id: str, currency: Currency, created_at: datetime
) -> bool:
    """Write a new account; ``False`` if the address is taken, ``PlanNotFound`` if there is no such plan."""
    try:
        found = await db.fetchval(QUERIES["insert_account"], account_id, email, plan_id, currency, created_at)
    except asyncpg.ForeignKeyViolationError as error:
        raise PlanNotFound(f"There is no plan {plan_id!r}.", param="plan") from error
    return found is not None


async def fetch_account(db: Db, account_id: UUID) -> Account | None:
    """Read one account."""
    row = await db.fetchrow(QUERIES["find_account"], account_id)
    return _account(row) if row else None


async def fetch_accounts(db: Db, *, after: UUID | None, limit: int) -> list[Account]:
    """Read at most ``limit`` accounts, oldest first, after the one that the page before ended with."""
    return [_account(row) for row in await db.fetch(QUERIES["list_accounts"], after, limit)]


async def set_plan(db: Db, account_id: UUID, plan_id: str) -> bool:
    """Move an account to a plan; ``False`` if there is no such account, ``PlanNotFound`` if no such plan."""
    try:
        return await db.fetchval(QUERIES["set_plan"], account_id, plan_id) is not None
    except asyncpg.ForeignKeyViolationError as error:
        raise PlanNotFound(f"There is no plan {plan_id!r}.", param="plan") from error


async def set_status(db: Db, account_id: UUID, status: AccountStatus) -> bool:
    """Set the status of an account; ``False`` if there is no such account."""
    return await db.fetchval(QUERIES["set_status"], account_id, status) is not None


async def set_limits(db: Db, account_id: UUID, overrides: Overrides, removed: Collection[LimitName]) -> bool:
    """Set and remove limits of one account; ``False`` if there is no such account."""
    written = msgspec.json.encode(overrides).decode()
    return await db.fetchval(QUERIES["set_limits"], account_id, written, list(removed)) is not None


def limits_from(row: Row) -> AccountLimits:
    """Merge a row's plan limits with the account's own, its column ``overrides``."""
    return effective_limits(limits_of(row), OVERRIDES.decode(row["overrides"]))


def _account(row: Row) -> Account:
    return Account(
        account_id=row["account_id"],
        email=row["email"],
        plan_id=row["plan_id"],
        currency=Currency(row["currency"]),
        status=AccountStatus(row["status"]),
        overrides=OVERRIDES.decode(row["overrides"]),
        limits=limits_from(row),
        created_at=row["created_at"],
    )
