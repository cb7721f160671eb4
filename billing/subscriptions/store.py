"""Subscriptions, prices, Checkout sessions and entitlements in Postgres."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from billing.subscriptions.model import Dispute, Entitlement, Notice, Price, Subscription
from gateway.accounts.model import AccountStatus
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.units import Currency

QUERIES = load_queries("billing.subscriptions")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a Checkout session was opened for: a plan, or credit of so many minor units."""

    session_id: str
    account_id: UUID
    purpose: str
    plan_id: str | None = None
    amount_minor: int | None = None
    currency: Currency
    state: str = "open"


async def save_price(db: Db, price: Price, now: datetime) -> None:
    """Remember a price, and go on knowing the one that it replaces."""
    await db.execute(QUERIES["retire_price"], price.price_id, price.lookup_key)
    await db.execute(QUERIES["save_price"], *msgspec.structs.astuple(price), now)


async def find_price(db: Db, lookup_key: str) -> Price | None:
    """Read the price of a lookup key."""
    row = await db.fetchrow(QUERIES["find_price"], lookup_key)
    return _price(row) if row else None


async def find_prices(db: Db, price_ids: Collection[str]) -> dict[str, Price]:
    """Read those of some prices that are ours, by id."""
    rows = await db.fetch(QUERIES["find_prices"], list(price_ids))
    return {row["price_id"]: _price(row) for row in rows}


async def insert_session(db: Db, session: Session, *, now: datetime, expires_at: datetime) -> None:
    """Write down a session that was opened."""
    await db.execute(
        QUERIES["insert_session"],
        session.session_id,
        session.account_id,
        session.purpose,
        session.plan_id,
        session.amount_minor,
        session.currency,
        now,
        expires_at,
    )


async def open_sessions(db: Db, account_id: UUID, purpose: str) -> list[str]:
    """Read the sessions of an account that may still be paid."""
    return [row["session_id"] for row in await db.fetch(QUERIES["open_sessions"], account_id, purpose)]


async def end_session(db: Db, session_id: str, state: str) -> None:
    """Write down that a session is ``complete`` or ``expired``."""
    await db.execute(QUERIES["end_session"], session_id, state)


async def find_session(db: Db, session_id: str) -> Session | None:
    """Read what a session was opened for; ``None`` for one that is not ours."""
    row = await db.fetchrow(QUERIES["find_session"], session_id)
    return Session(**{**row, "currency": Currency(row["currency"])}) if row else None


async def moment(db: Db) -> datetime:
    """Return the time by which it is decided which answer of Stripe's is newer: that of the database."""
    now: datetime = await db.fetchval(QUERIES["moment"])
    return now


async def save_subscription(db: Db, subscription: Subscription) -> None:
    """Write a subscription, unless Stripe told something newer."""
    await db.execute(QUERIES["save_subscription"], *msgspec.structs.astuple(subscription))


async def find_owner(db: Db, subscription_id: str) -> UUID | None:
    """Return whose a subscription is, where it is known."""
    owner: UUID | None = await db.fetchval(QUERIES["find_subscription"], subscription_id)
    return owner


async def subscriptions_of(db: Db, account_id: UUID) -> list[Subscription]:
    """Read all subscriptions of an account, oldest first."""
    return [Subscription(**row) for row in await db.fetch(QUERIES["subscriptions_of"], account_id)]


async def subscriptions_page(db: Db, *, after: str, limit: int) -> list[str]:
    """Read a page of the ids of subscriptions that have not ended."""
    return [row["subscription_id"] for row in await db.fetch(QUERIES["subscriptions_page"], after, limit)]


async def save_dispute(db: Db, dispute: Dispute) -> None:
    """Write a dispute, unless Stripe told something newer."""
    await db.execute(QUERIES["save_dispute"], *msgspec.structs.astuple(dispute))


async def disputes_of(db: Db, account_id: UUID) -> list[Dispute]:
    """Read all disputes of an account."""
    return [Dispute(**row) for row in await db.fetch(QUERIES["disputes_of"], account_id)]


async def lock_account(connection: Connection, account_id: UUID) -> AccountStatus | None:
    """Hold an account until the transaction ends and return its status; ``None`` if there is none."""
    status = await connection.fetchval(QUERIES["lock_account"], account_id)
    return AccountStatus(status) if status else None


async def find_entitlement(db: Db, account_id: UUID) -> Entitlement | None:
    """Read what was last applied to an account."""
    row = await db.fetchrow(QUERIES["find_entitlement"], account_id)
    if row is None:
        return None
    return Entitlement(
        plan_id=row["plan_id"],
        status=AccountStatus(row["status"]),
        notice=Notice(row["notice"]) if row["notice"] else None,
        notice_at=row["notice_at"],
        review_at=row["review_at"],
    )


async def save_entitlement(db: Db, account_id: UUID, entitlement: Entitlement, now: datetime) -> None:
    """Write what is applied to an account."""
    await db.execute(QUERIES["save_entitlement"], account_id, *msgspec.structs.astuple(entitlement), now)


async def due_reviews(db: Db, now: datetime, limit: int) -> Sequence[UUID]:
    """Read accounts whose entitlement changes by time alone."""
    return [row["account_id"] for row in await db.fetch(QUERIES["due_reviews"], now, limit)]


def _price(row: Row) -> Price:
    return Price(**{**row, "currency": Currency(row["currency"])})
