"""Subscriptions at Stripe: read into our own words, and changed by one request each."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import stripe as sdk_types

from billing.stripe.client import Stripe
from billing.subscriptions.model import OWING, Dispute, Price, Subscription
from gateway.ids import uuid7

HELD_PLAN_KEY = "nusagate_held_plan"
HELD_PRICE_KEY = "nusagate_held_price"
HELD_UNTIL_KEY = "nusagate_held_until"
OPEN_INVOICES_MAX = 100
"""More unpaid invoices than this of one subscription would be eight years of months."""


class Fetched(msgspec.Struct, frozen=True):
    """A subscription as the SDK gives it, when it was asked for, and since when it owes money."""

    raw: sdk_types.Subscription
    owed_since: datetime | None
    asked_at: datetime

    @property
    def customer_id(self) -> str:
        """The customer that it belongs to."""
        return id_of(self.raw.customer)

    @property
    def price_ids(self) -> list[str]:
        """The prices that it is made of."""
        return [item.price.id for item in self.raw["items"].data]


async def fetch(stripe: Stripe, subscription_id: str, asked_at: datetime) -> Fetched:
    """Ask for a subscription; ``StripeMissing`` if there is none, or another ``StripeError``."""
    raw = await stripe.read(lambda sdk: sdk.v1.subscriptions.retrieve_async(subscription_id))
    return await complete(stripe, raw, asked_at)


async def complete(stripe: Stripe, raw: sdk_types.Subscription, asked_at: datetime) -> Fetched:
    """Add since when a subscription owes money, which only its open invoices tell. Raises a ``StripeError``."""
    owed_since = await _owed_since(stripe, raw.id) if raw.status in OWING else None
    return Fetched(raw, owed_since, asked_at)


async def _owed_since(stripe: Stripe, subscription_id: str) -> datetime | None:
    page = await stripe.read(
        lambda sdk: sdk.v1.invoices.list_async(
            {"subscription": subscription_id, "status": "open", "limit": OPEN_INVOICES_MAX}
        )
    )
    moments = [
        invoice.status_transitions.finalized_at or invoice.created
        for invoice in page.data
        if invoice.attempt_count > 0
    ]
    return moment(min(moments)) if moments else None


def read_subscription(fetched: Fetched, account_id: UUID, prices: Mapping[str, Price]) -> Subscription:
    """Put what Stripe said into our own words; ``prices`` are those of its prices that are ours."""
    raw = fetched.raw
    items = raw["items"].data
    flat = next((item for item in items if _kind(item, prices) == "flat"), None)
    metered = next((item for item in items if _kind(item, prices) == "metered"), None)
    deciding = flat or metered
    metadata: Mapping[str, str] = raw.metadata.to_dict() if raw.metadata else {}
    return Subscription(
        subscription_id=raw.id,
        account_id=account_id,
        customer_id=fetched.customer_id,
        status=raw.status,
        plan_id=prices[deciding.price.id].plan_id if deciding else None,
        flat_item_id=flat.id if flat else None,
        metered_item_id=metered.id if metered else None,
        started_at=moment(raw.start_date),
        period_start=moment(min((item.current_period_start for item in items), default=raw.start_date)),
        period_end=moment(max((item.current_period_end for item in items), default=raw.start_date)),
        cancel_at=moment_or_none(raw.cancel_at),
        ended_at=moment_or_none(raw.ended_at),
        owed_since=fetched.owed_since,
        held_plan_id=_text(metadata, HELD_PLAN_KEY),
        held_until=_moment_in(metadata, HELD_UNTIL_KEY),
        flat_price_id=flat.price.id if flat else None,
        held_price_id=_text(metadata, HELD_PRICE_KEY),
        asked_at=fetched.asked_at,
    )


async def change(
    stripe: Stripe,
    subscription_id: str,
    params: sdk_types.params.SubscriptionUpdateParams,
    asked_at: datetime,
) -> Fetched:
    """Change a subscription and return what it is now. Raises a ``StripeError``; ``StripeDeclined`` changed nothing."""
    raw = await stripe.write(
        lambda sdk, options: sdk.v1.subscriptions.update_async(subscription_id, params, options),
        idempotency_key=f"subscription:{uuid7()}",
    )
    return await complete(stripe, raw, asked_at)


async def fetch_dispute(
    stripe: Stripe, dispute_id: str, asked_at: datetime
) -> tuple[str | None, Callable[[UUID], Dispute]]:
    """Ask for a dispute: whose it is, and how it reads once the account is known. Raises a ``StripeError``."""
    raw = await stripe.read(lambda sdk: sdk.v1.disputes.retrieve_async(dispute_id, {"expand": ["charge"]}))
    charge = raw.charge
    customer = None if isinstance(charge, str) else charge.customer
    due_by = raw.evidence_details.due_by if raw.evidence_details else None

    def of(account_id: UUID) -> Dispute:
        return Dispute(
            dispute_id=raw.id,
            account_id=account_id,
            charge_id=id_of(charge),
            amount_minor=raw.amount,
            currency=raw.currency,
            reason=raw.reason,
            status=raw.status,
            created_at=moment(raw.created),
            due_by=moment_or_none(due_by),
            asked_at=asked_at,
        )

    return (id_of(customer) if customer else None), of


def id_of(value: Any) -> str:
    """Return the id of something that Stripe gives as an id or, expanded, as an object."""
    return value if isinstance(value, str) else str(value.id)


def moment(unix_s: int) -> datetime:
    """Read Unix seconds."""
    return datetime.fromtimestamp(unix_s, UTC)


def moment_or_none(unix_s: int | None) -> datetime | None:
    """Read Unix seconds, if there are any."""
    return None if unix_s is None else moment(unix_s)


def _kind(item: sdk_types.SubscriptionItem, prices: Mapping[str, Price]) -> str | None:
    price = prices.get(item.price.id)
    return price.kind if price else None


def _text(metadata: Mapping[str, str], name: str) -> str | None:
    return metadata.get(name) or None


def _moment_in(metadata: Mapping[str, str], name: str) -> datetime | None:
    text = _text(metadata, name)
    return moment(int(text)) if text and text.isascii() and text.isdigit() else None
