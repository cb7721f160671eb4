"""Paying credit in: a page of Stripe's where a card or a transfer pays once, and what follows when the money is there."""

from datetime import timedelta
from uuid import UUID

import msgspec
import stripe as sdk_types

from billing.credit import store
from billing.credit.model import Side, Transfer
from billing.credit.service import credit
from billing.customers import service as customers
from billing.customers.model import ACCOUNT_KEY
from billing.stripe.client import Stripe
from billing.stripe.money import STRIPE_MONEY
from billing.subscriptions import store as sessions
from billing.subscriptions.service import SESSION_OPEN, ReturnUrls
from billing.subscriptions.store import Session
from gateway.accounts import service as accounts
from gateway.accounts.model import Account
from gateway.clock import Clock
from gateway.db.pool import Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.units import PICO_DIGITS, Currency

PURPOSE = "credit"
PRODUCT = "Nusagate credit"


class TopUpBounds(msgspec.Struct, frozen=True):
    """The least and the most that is paid in at once, in Stripe's minor units."""

    least_minor: int
    most_minor: int


BOUNDS = {
    Currency.IDR: TopUpBounds(1_000_000, 10_000_000_000),
    Currency.USD: TopUpBounds(100, 1_000_000),
}
"""Rp 10,000 to Rp 100,000,000, and $ 1 to $ 10,000; Stripe charges nothing below about half a dollar."""


async def start_top_up(
    db: Pool, clock: Clock, stripe: Stripe, account_id: UUID, *, amount_minor: int, urls: ReturnUrls
) -> str:
    """Open a page of Stripe's where credit is paid, and return its address.

    ``AccountNotFound``, ``InvalidValue`` for an amount out of bounds, or a ``StripeError``.
    """
    account = await accounts.get(db, account_id)
    bounds = BOUNDS[account.currency]
    if not bounds.least_minor <= amount_minor <= bounds.most_minor:
        raise InvalidValue(
            f"Credit is paid in from {bounds.least_minor:,} to {bounds.most_minor:,} minor units at once.",
            param="amount",
        )
    now = clock.now()
    expires_at = now + SESSION_OPEN
    session = await customers.for_customer(
        db,
        clock,
        stripe,
        account,
        lambda customer_id: stripe.write(
            lambda sdk, options: sdk.v1.checkout.sessions.create_async(
                _params(account, customer_id, amount_minor, urls, int(expires_at.timestamp())), options
            ),
            idempotency_key=f"checkout:{uuid7()}",
        ),
    )
    kept = Session(
        session_id=session.id,
        account_id=account_id,
        purpose=PURPOSE,
        amount_minor=amount_minor,
        currency=account.currency,
    )
    await sessions.insert_session(db, kept, now=now, expires_at=expires_at)
    assert session.url is not None
    return session.url


async def refresh_top_up(
    db: Pool, clock: Clock, stripe: Stripe, session_id: str, grace: timedelta
) -> UUID | None:
    """Fetch a session that was for credit, and credit the account once it is paid. Raises a ``StripeError``.

    A transfer from a bank completes the session first and pays it days later, or never.
    """
    kept = await sessions.find_session(db, session_id)
    if kept is None or kept.purpose != PURPOSE:
        return None
    session = await stripe.read(lambda sdk: sdk.v1.checkout.sessions.retrieve_async(session_id))
    async with db.acquire() as connection, connection.transaction():
        if session.status in {"complete", "expired"}:
            await sessions.end_session(connection, session_id, session.status)
        if session.payment_status == "paid":
            await credit(connection, clock, _transfer(kept), grace)
    return kept.account_id


async def is_credited(db: Db, kept: Session) -> bool:
    """Tell whether the money of a session has become credit."""
    return await store.is_posted(db, _key(kept))


def to_pico(amount_minor: int, currency: Currency) -> int:
    """Write minor units as pico-currency, exactly."""
    return amount_minor * int(10 ** (PICO_DIGITS - STRIPE_MONEY[currency].minor_exponent))


def _transfer(kept: Session) -> Transfer:
    assert kept.amount_minor is not None
    return Transfer(
        key=_key(kept),
        owner_id=kept.account_id,
        currency=kept.currency,
        side=Side.PAID_IN,
        amount_pico=to_pico(kept.amount_minor, kept.currency),
        reason="paid in",
        actor="stripe",
    )


def _key(kept: Session) -> str:
    return f"checkout:{kept.session_id}"


def _params(
    account: Account, customer_id: str, amount_minor: int, urls: ReturnUrls, expires_at: int
) -> sdk_types.params.checkout.SessionCreateParams:
    return {
        "mode": "payment",
        "customer": customer_id,
        "client_reference_id": str(account.account_id),
        "metadata": {ACCOUNT_KEY: str(account.account_id)},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": account.currency.value,
                    "unit_amount": amount_minor,
                    "product_data": {"name": PRODUCT},
                },
            }
        ],
        "success_url": urls.success,
        "cancel_url": urls.cancel,
        "expires_at": expires_at,
    }
