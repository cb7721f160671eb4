"""Buying, changing and ending plans. Money moves at Stripe; what it buys is decided by ``model.entitle``.

What a change costs, which ``docs/billing.md`` repeats: every month begins on the 1st at 00:00 UTC. The first, shorter
month costs its share, and so does what a dearer plan costs more for the rest of a month; both are paid at once. A
cheaper plan begins with the next month. Nothing is paid back.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import stripe as sdk_types

from billing.customers import service as customers
from billing.customers.model import ACCOUNT_KEY
from billing.settings import StripeLimits
from billing.stripe.client import Stripe
from billing.stripe.errors import Effect, StripeError, StripeMissing, StripeRefused
from billing.subscriptions import catalogue, remote, store
from billing.subscriptions.entitlements import apply_entitlement
from billing.subscriptions.model import (
    AlreadySubscribed,
    CheckoutClosed,
    Entitlement,
    NoPriceForPlan,
    NotSubscribed,
    Price,
    Subscription,
    current,
)
from billing.subscriptions.offers import Offer, Standing, Step, change_step, held_plan, offers
from billing.subscriptions.refreshing import refresh_subscription, save_fetched
from billing.subscriptions.store import Session
from gateway.accounts import service as accounts
from gateway.accounts.model import Account
from gateway.clock import Clock, month_end, month_of
from gateway.db.pool import Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.plans import service as plans

PLAN = "plan"
NOT_SOLD_ONLINE = frozenset({"enterprise"})
"""Plans without limits are agreed upon with a person."""
SESSION_OPEN = timedelta(hours=23, minutes=59)
"""Stripe keeps a session for 24 hours at most, and for 30 minutes at least."""
SESSION_SHORTEST = timedelta(minutes=31)

Params = sdk_types.params.SubscriptionUpdateParams
Items = list[sdk_types.params.SubscriptionUpdateParamsItem]


class ReturnUrls(msgspec.Struct, frozen=True, kw_only=True):
    """Where Stripe's pages lead back to; from configuration, never from a request."""

    success: str
    cancel: str


class Subscriptions:
    """What an account's owner can do about its plan. Everything raises a ``StripeError`` where Stripe does not do it."""

    def __init__(self, db: Pool, clock: Clock, stripe: Stripe, limits: StripeLimits) -> None:
        self._db = db
        self._clock = clock
        self._stripe = stripe
        self._grace = timedelta(days=limits.payment_grace_days)

    async def start_checkout(self, account_id: UUID, plan_id: str, urls: ReturnUrls) -> str:
        """Open a page of Stripe's where a plan is bought, and return its address.

        An account has one such page at a time. ``AlreadySubscribed``, ``NoPriceForPlan``, ``PlanNotFound``,
        ``AccountNotFound``, or ``CheckoutClosed`` in the last half hour of a month.
        """
        account = await accounts.get(self._db, account_id)
        price = await self._price(account, plan_id)
        await self._close_sessions(account_id)
        if current(await store.subscriptions_of(self._db, account_id)) is not None:
            raise AlreadySubscribed
        now = self._clock.now()
        anchor = month_end(month_of(now))
        expires_at = min(now + SESSION_OPEN, anchor)
        if expires_at - now < SESSION_SHORTEST:
            raise CheckoutClosed
        session = await customers.for_customer(
            self._db,
            self._clock,
            self._stripe,
            account,
            lambda customer_id: self._open_session(
                account, customer_id, price, urls, anchor=anchor, expires_at=expires_at
            ),
        )
        kept = Session(
            session_id=session.id,
            account_id=account_id,
            purpose=PLAN,
            plan_id=plan_id,
            currency=account.currency,
        )
        await store.insert_session(self._db, kept, now=now, expires_at=expires_at)
        assert session.url is not None
        return session.url

    async def portal_url(self, account_id: UUID, return_url: str) -> str:
        """Open Stripe's page for cards, invoices and cancelling, and return its address; it is good for minutes."""
        account = await accounts.get(self._db, account_id)
        session = await customers.for_customer(
            self._db,
            self._clock,
            self._stripe,
            account,
            lambda customer_id: self._stripe.write(
                lambda sdk, options: sdk.v1.billing_portal.sessions.create_async(
                    {"customer": customer_id, "return_url": return_url}, options
                ),
                idempotency_key=f"portal:{uuid7()}",
            ),
        )
        return session.url

    async def change_plan(self, account_id: UUID, plan_id: str) -> Entitlement:
        """Move a subscription to another plan; see the top of this module for when and for how much.

        ``StripeDeclined`` where what it costs now could not be collected: then nothing has changed. ``NotSubscribed``,
        ``NoPriceForPlan``, ``PlanNotFound``, or ``InvalidValue`` for the plan that is chosen already.
        """
        account = await accounts.get(self._db, account_id)
        subscription = await self._subscription(account_id)
        price = await self._price(account, plan_id)
        if plan_id == subscription.plan_id:
            raise InvalidValue(f"The plan {plan_id!r} is chosen already.", param="plan")
        now = self._clock.now()
        held = held_plan(subscription, now)
        paid = await paid_price(self._db, account, subscription, now)
        if paid is None and subscription.flat_item_id is not None:
            raise NoPriceForPlan("What is paid for now is not known yet; try again in a few hours.")
        step = change_step(price, subscription, paid, held=held)
        if step is Step.TO_METERED:
            return await self._change(subscription, _to_metered(subscription, price))
        if paid is None:
            return await self._change(subscription, _charged_now([{"price": price.price_id, "quantity": 1}]))
        if step is Step.CHEAPER:
            return await self._change(subscription, _later(subscription, price, paid))
        if step is Step.BACK:
            return await self._change(subscription, _back(subscription, paid))
        if held is not None:
            return await self._past_held(account, subscription, paid=paid, price=price)
        return await self._change(subscription, _charged_now(_flat_item(subscription, price)))

    async def cancel(self, account_id: UUID) -> Entitlement:
        """Let the plan end with the month that is paid for; ``NotSubscribed``."""
        return await self._change(await self._subscription(account_id), {"cancel_at_period_end": True})

    async def keep(self, account_id: UUID) -> Entitlement:
        """Take a cancellation back, as long as the plan has not ended; ``NotSubscribed``."""
        return await self._change(await self._subscription(account_id), {"cancel_at_period_end": False})

    async def _price(self, account: Account, plan_id: str) -> Price:
        plan = await plans.get_plan(self._db, plan_id)
        if plan_id in NOT_SOLD_ONLINE:
            raise NoPriceForPlan(
                f"The plan {plan_id!r} is agreed upon with us, not bought here.", param="plan"
            )
        return await catalogue.price_of(self._db, plan, account.currency)

    async def _subscription(self, account_id: UUID) -> Subscription:
        subscription = current(await store.subscriptions_of(self._db, account_id))
        if subscription is None:
            raise NotSubscribed
        return subscription

    async def _past_held(
        self, account: Account, subscription: Subscription, *, paid: Price, price: Price
    ) -> Entitlement:
        """Move to a dearer plan than the one that is held.

        What is paid for already must not be paid for again, so the price goes back to it first, and nothing else does.
        Where the card is declined, the cheaper plan that was chosen follows as before, and a cancellation holds.
        """
        chosen = await _known_price(self._db, account, subscription.flat_price_id, subscription.plan_id)
        if chosen is None:
            raise NoPriceForPlan
        await self._change(subscription, _only_price(subscription, paid))
        try:
            return await self._change(subscription, _charged_now(_flat_item(subscription, price)))
        except StripeError as error:
            if error.effect is Effect.NONE:
                await self._change(subscription, _only_price(subscription, chosen))
            raise

    async def _change(self, subscription: Subscription, params: Params) -> Entitlement:
        asked_at = await store.moment(self._db)
        fetched = await remote.change(self._stripe, subscription.subscription_id, params, asked_at)
        await save_fetched(self._db, fetched)
        return await apply_entitlement(self._db, self._clock, subscription.account_id, self._grace)

    async def _open_session(
        self,
        account: Account,
        customer_id: str,
        price: Price,
        urls: ReturnUrls,
        *,
        anchor: datetime,
        expires_at: datetime,
    ) -> sdk_types.checkout.Session:
        line: sdk_types.params.checkout.SessionCreateParamsLineItem = {"price": price.price_id}
        if price.kind == catalogue.FLAT:
            line["quantity"] = 1
        return await self._stripe.write(
            lambda sdk, options: sdk.v1.checkout.sessions.create_async(
                {
                    "mode": "subscription",
                    "customer": customer_id,
                    "client_reference_id": str(account.account_id),
                    "line_items": [line],
                    "success_url": urls.success,
                    "cancel_url": urls.cancel,
                    "expires_at": int(expires_at.timestamp()),
                    "subscription_data": {
                        "billing_cycle_anchor": int(anchor.timestamp()),
                        "proration_behavior": "create_prorations",
                        "metadata": {ACCOUNT_KEY: str(account.account_id)},
                    },
                },
                options,
            ),
            idempotency_key=f"checkout:{uuid7()}",
        )

    async def _close_sessions(self, account_id: UUID) -> None:
        """Close the pages that are open, so that nobody pays twice; take in what was paid on one a moment ago."""
        for session_id in await store.open_sessions(self._db, account_id, PLAN):
            try:
                await self._stripe.write(
                    lambda sdk, options, session_id=session_id: sdk.v1.checkout.sessions.expire_async(  # type: ignore[misc]
                        session_id, {}, options
                    ),
                    idempotency_key=f"expire:{session_id}",
                )
                await store.end_session(self._db, session_id, "expired")
            except StripeRefused:
                await refresh_session(self._db, self._clock, self._stripe, session_id, self._grace)


async def offers_to(db: Db, clock: Clock, account: Account) -> list[Offer]:
    """Say of every plan that is sold what choosing it would be and cost at this moment; nothing is asked of Stripe."""
    sold = [plan for plan in await plans.list_plans(db) if plan.plan_id not in NOT_SOLD_ONLINE]
    subscription = current(await store.subscriptions_of(db, account.account_id))
    now = clock.now()
    standing = Standing(
        plan_id=account.plan_id,
        subscription=subscription,
        held=held_plan(subscription, now) if subscription else None,
        paid=await paid_price(db, account, subscription, now) if subscription else None,
        prices=await catalogue.prices_of(db, sold, account.currency),
        now=now,
    )
    return offers(sold, standing)


async def paid_price(db: Db, account: Account, subscription: Subscription, now: datetime) -> Price | None:
    """Return the flat price that is paid for this month, also one that is not sold any more; ``None`` without one."""
    if subscription.flat_item_id is None:
        return None
    held = held_plan(subscription, now)
    if held is not None:
        return await _known_price(db, account, subscription.held_price_id, held)
    return await _known_price(db, account, subscription.flat_price_id, subscription.plan_id)


async def _known_price(db: Db, account: Account, price_id: str | None, plan_id: str | None) -> Price | None:
    """Return a price by its id, or what its plan costs now where the id was not heard of yet."""
    known = await store.find_prices(db, [price_id]) if price_id else {}
    if price_id in known:
        return known[price_id]
    plan = await plans.get_plan(db, plan_id or "")
    return (await catalogue.prices_of(db, [plan], account.currency)).get(plan.plan_id)


async def refresh_session(
    db: Pool, clock: Clock, stripe: Stripe, session_id: str, grace: timedelta
) -> UUID | None:
    """Fetch a Checkout session that was for a plan, and the subscription it made. Raises a ``StripeError``."""
    kept = await store.find_session(db, session_id)
    if kept is None or kept.purpose != PLAN:
        return None
    try:
        session = await stripe.read(lambda sdk: sdk.v1.checkout.sessions.retrieve_async(session_id))
    except StripeMissing:
        # Nobody can pay on a page that Stripe has forgotten, and it must not be in the way of the next one.
        await store.end_session(db, session_id, "expired")
        return None
    if session.status in {"complete", "expired"}:
        await store.end_session(db, session_id, session.status)
    if session.subscription is not None:
        await refresh_subscription(db, clock, stripe, remote.id_of(session.subscription), grace)
    return kept.account_id


def _flat_item(subscription: Subscription, price: Price) -> Items:
    """Return the item of the flat price with another one."""
    assert subscription.flat_item_id is not None
    return [{"id": subscription.flat_item_id, "price": price.price_id, "quantity": 1}]


def _charged_now(items: Items) -> Params:
    """Change items and collect what that costs at once; a card that is declined changes nothing."""
    return {
        "items": items,
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
        "cancel_at_period_end": False,
        "metadata": _NOTHING_HELD,
    }


def _later(subscription: Subscription, price: Price, paid: Price) -> Params:
    """Bill the cheaper price from the next month on, and hold the plan that is paid for until then."""
    return {
        "items": _flat_item(subscription, price),
        "proration_behavior": "none",
        "cancel_at_period_end": False,
        "metadata": {
            remote.HELD_PLAN_KEY: paid.plan_id,
            remote.HELD_PRICE_KEY: paid.price_id,
            remote.HELD_UNTIL_KEY: str(int(subscription.period_end.timestamp())),
        },
    }


def _back(subscription: Subscription, paid: Price) -> Params:
    """Return to the plan that is held, which costs nothing now."""
    return {**_only_price(subscription, paid), "cancel_at_period_end": False, "metadata": _NOTHING_HELD}


def _only_price(subscription: Subscription, price: Price) -> Params:
    """Bill another price from the next month on, and leave everything else as it is."""
    return {"items": _flat_item(subscription, price), "proration_behavior": "none"}


def _to_metered(subscription: Subscription, price: Price) -> Params:
    """Pay for tokens from now on; the rest of a flat month is not paid back.

    An item for usage is never removed again: Stripe would drop usage that is still on its way to it.
    """
    items: Items = []
    if subscription.metered_item_id is None:
        items.append({"price": price.price_id})
    if subscription.flat_item_id is not None:
        items.append({"id": subscription.flat_item_id, "deleted": True})
    return {
        "items": items,
        "proration_behavior": "none",
        "cancel_at_period_end": False,
        "metadata": _NOTHING_HELD,
    }


_NOTHING_HELD = {remote.HELD_PLAN_KEY: "", remote.HELD_PRICE_KEY: "", remote.HELD_UNTIL_KEY: ""}
