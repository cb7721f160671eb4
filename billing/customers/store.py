"""Customers in Postgres."""

from datetime import datetime
from uuid import UUID

import asyncpg

from billing.customers.model import Customer, CustomerState, CustomerTaken
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries

QUERIES = load_queries("billing.customers")


async def find(db: Db, account_id: UUID) -> Customer | None:
    """Read who an account is at Stripe."""
    return _customer(await db.fetchrow(QUERIES["find_customer"], account_id))


async def find_by_customer(db: Db, customer_id: str) -> Customer | None:
    """Read whose a customer is."""
    return _customer(await db.fetchrow(QUERIES["find_by_customer"], customer_id))


async def save(db: Db, account_id: UUID, customer_id: str, *, generation: int, now: datetime) -> None:
    """Write a customer, unless the account has one of this generation; ``CustomerTaken`` if it is another account's."""
    try:
        await db.execute(QUERIES["save_customer"], account_id, customer_id, generation, now)
    except asyncpg.UniqueViolationError as error:
        raise CustomerTaken(f"The customer {customer_id} belongs to another account.") from error


async def park(db: Db, customer_id: str, *, reason: str, now: datetime) -> UUID | None:
    """Stop sending for a customer; return its account, or ``None`` if nobody has it, or it is parked already."""
    account_id: UUID | None = await db.fetchval(QUERIES["park_customer"], customer_id, reason, now)
    return account_id


def _customer(row: Row | None) -> Customer | None:
    if row is None:
        return None
    return Customer(**{**row, "state": CustomerState(row["state"])})
