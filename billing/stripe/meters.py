"""Stripe's meters: one a currency, raw events that are summed, and the sums that Stripe shows of them.

Raw and ``sum``: in a pre-aggregated meter (``event_time_window``) the newest event of a window overwrites the others.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import stripe

from billing.stripe.client import Stripe
from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from gateway.units import Currency

CUSTOMER_KEY = "stripe_customer_id"
VALUE_KEY = "value"
PAGE = 100


async def ensure_meters(client: Stripe) -> dict[Currency, str]:
    """Return the id of every currency's meter, and make those that are missing."""
    known = await find_meters(client)
    for currency, money in STRIPE_MONEY.items():
        if currency not in known:
            known[currency] = await _create(client, currency, money.event_name)
    return known


async def find_meters(client: Stripe) -> dict[Currency, str]:
    """Return the ids of the active meters that are ours."""
    page = await client.read(
        lambda sdk: sdk.v1.billing.meters.list_async({"status": "active", "limit": PAGE})
    )
    ids = {meter.event_name: meter.id for meter in page.data}
    return {
        currency: ids[money.event_name] for currency, money in STRIPE_MONEY.items() if money.event_name in ids
    }


async def send(client: Stripe, event: MeterEvent, *, idempotency_key: str) -> None:
    """Send one meter event; a ``StripeError`` says what is known of its effect."""
    params: stripe.params.billing.MeterEventCreateParams = {
        "event_name": event.event_name,
        "identifier": event.identifier,
        "timestamp": int(event.event_at.timestamp()),
        "payload": {CUSTOMER_KEY: event.customer_id, VALUE_KEY: str(event.value)},
    }
    await client.write(
        lambda sdk, options: sdk.v1.billing.meter_events.create_async(params, options),
        idempotency_key=idempotency_key,
    )


async def cancel(client: Stripe, event_name: str, identifier: str, *, idempotency_key: str) -> None:
    """Take back one event that Stripe received within the last 24 hours. Raises a ``StripeError``."""
    params: stripe.params.billing.MeterEventAdjustmentCreateParams = {
        "event_name": event_name,
        "type": "cancel",
        "cancel": {"identifier": identifier},
    }
    await client.write(
        lambda sdk, options: sdk.v1.billing.meter_event_adjustments.create_async(params, options),
        idempotency_key=idempotency_key,
    )


async def hourly_sums(
    client: Stripe, meter_id: str, customer_id: str, start: datetime, end: datetime
) -> Mapping[datetime, int]:
    """Read what Stripe has counted for a customer in [start, end), by UTC hour; hours without usage are left out.

    At most 96 hours, both ends on the hour. One read.
    """
    page = await client.read(
        lambda sdk: sdk.v1.billing.meters.event_summaries.list_async(
            meter_id,
            {
                "customer": customer_id,
                "start_time": int(start.timestamp()),
                "end_time": int(end.timestamp()),
                "value_grouping_window": "hour",
                "limit": PAGE,
            },
        )
    )
    return {
        datetime.fromtimestamp(summary.start_time, UTC): int(summary.aggregated_value)
        for summary in page.data
    }


async def _create(client: Stripe, currency: Currency, event_name: str) -> str:
    meter = await client.write(
        lambda sdk, options: sdk.v1.billing.meters.create_async(
            {
                "display_name": f"Usage in {currency.upper()}",
                "event_name": event_name,
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
                "value_settings": {"event_payload_key": VALUE_KEY},
            },
            options,
        ),
        idempotency_key=f"meter:{event_name}",
    )
    return meter.id
