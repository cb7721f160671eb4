"""Taking in what Stripe knows: an object is fetched anew, whatever event named it, so order and repetition do not matter."""

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from uuid import UUID

import stripe as sdk_types

from billing.customers import service as customers
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeMissing
from billing.subscriptions import remote, store
from billing.subscriptions.entitlements import apply_entitlement
from billing.subscriptions.model import Subscription
from gateway.clock import Clock
from gateway.db.pool import Pool

PAGE = 100


async def refresh_subscription(
    db: Pool, clock: Clock, stripe: Stripe, subscription_id: str, grace: timedelta
) -> UUID | None:
    """Fetch a subscription and apply what follows; ``None`` where it is nobody's of ours. Raises a ``StripeError``."""
    try:
        fetched = await remote.fetch(stripe, subscription_id, await store.moment(db))
    except StripeMissing:
        return None
    saved = await save_fetched(db, fetched)
    if saved is None:
        return None
    await apply_entitlement(db, clock, saved.account_id, grace)
    return saved.account_id


async def save_fetched(db: Pool, fetched: remote.Fetched) -> Subscription | None:
    """Write a subscription that Stripe gave; ``None`` where it is nobody's of ours."""
    account_id = await customers.account_of(db, fetched.customer_id)
    account_id = account_id or await store.find_owner(db, fetched.raw.id)
    if account_id is None:
        return None
    prices = await store.find_prices(db, fetched.price_ids)
    subscription = remote.read_subscription(fetched, account_id, prices)
    await store.save_subscription(db, subscription)
    return subscription


async def refresh_dispute(
    db: Pool, clock: Clock, stripe: Stripe, dispute_id: str, grace: timedelta
) -> UUID | None:
    """Fetch a dispute and apply what follows; ``None`` where it is nobody's of ours. Raises a ``StripeError``."""
    try:
        customer_id, read = await remote.fetch_dispute(stripe, dispute_id, await store.moment(db))
    except StripeMissing:
        return None
    account_id = await customers.account_of(db, customer_id) if customer_id else None
    if account_id is None:
        return None
    await store.save_dispute(db, read(account_id))
    await apply_entitlement(db, clock, account_id, grace)
    return account_id


async def refresh_all(db: Pool, clock: Clock, stripe: Stripe, grace: timedelta) -> int:
    """Compare all running subscriptions with Stripe, a hundred in a read, for the events that never came.

    Subscriptions that we think run and Stripe no longer lists are fetched one by one. Raises a ``StripeError``.
    """
    listed: set[str] = set()
    async for fetched in _running(db, stripe):
        listed.add(fetched.raw.id)
        saved = await save_fetched(db, fetched)
        if saved is not None:
            await apply_entitlement(db, clock, saved.account_id, grace)
    for subscription_id in await _not_listed(db, listed):
        await refresh_subscription(db, clock, stripe, subscription_id, grace)
    return len(listed)


async def _running(db: Pool, stripe: Stripe) -> AsyncIterator[remote.Fetched]:
    after: str | None = None
    while True:
        asked_at = await store.moment(db)
        page = await _page(stripe, after)
        for raw in page.data:
            yield await remote.complete(stripe, raw, asked_at)
        if not page.has_more:
            return
        after = page.data[-1].id


async def _page(stripe: Stripe, after: str | None) -> sdk_types.ListObject[sdk_types.Subscription]:
    params: sdk_types.params.SubscriptionListParams = {"limit": PAGE}
    if after is not None:
        params["starting_after"] = after
    return await stripe.read(lambda sdk: sdk.v1.subscriptions.list_async(params))


async def _not_listed(db: Pool, listed: Iterable[str]) -> list[str]:
    known: list[str] = []
    after = ""
    while page := await store.subscriptions_page(db, after=after, limit=PAGE):
        known += page
        after = page[-1]
    return sorted(set(known) - set(listed))
