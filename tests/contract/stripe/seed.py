"""What most of the tests begin with: a meter, prices in rupiah, a customer, a subscription."""

from typing import NamedTuple
from uuid import uuid4

import stripe

EVENT = "llm_spend_idr"


class Catalogue(NamedTuple):
    """A meter, the price of what it counts (0.1 sen for a milli-rupiah), and two flat plans."""

    meter: stripe.billing.Meter
    event_name: str
    spend: stripe.Price
    basic: stripe.Price
    standard: stripe.Price


def catalogue(client: stripe.StripeClient) -> Catalogue:
    """Create a catalogue of its own; event names are unique so that it works on a used account too."""
    event_name = f"{EVENT}_{uuid4().hex[:8]}"
    meter = new_meter(client, event_name)
    spend = client.v1.prices.create(
        {
            "currency": "idr",
            "unit_amount_decimal": "0.1",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            "product_data": {"name": "Tokens"},
        }
    )
    return Catalogue(
        meter, event_name, spend, flat(client, "Basic", 999_900), flat(client, "Standard", 5_999_900)
    )


def new_meter(client: stripe.StripeClient, event_name: str) -> stripe.billing.Meter:
    """Create a raw meter that sums."""
    return client.v1.billing.meters.create(
        {"display_name": "LLM spend", "event_name": event_name, "default_aggregation": {"formula": "sum"}}
    )


def flat(client: stripe.StripeClient, name: str, amount: int) -> stripe.Price:
    """Create a monthly price in sen (Rp 1 is 100)."""
    return client.v1.prices.create(
        {
            "currency": "idr",
            "unit_amount": amount,
            "recurring": {"interval": "month"},
            "product_data": {"name": name},
        }
    )


def sari(client: stripe.StripeClient, **more: str) -> stripe.Customer:
    """Create the customer of most tests."""
    return client.v1.customers.create({"email": "sari@example.com", "name": "Sari", **more})


def paying_sari(client: stripe.StripeClient, card: str = "pm_card_visa", **more: str) -> stripe.Customer:
    """Create a customer with a card on file."""
    customer = sari(client, **more)
    method = client.v1.payment_methods.attach(card, {"customer": customer.id})
    return client.v1.customers.update(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )


def event_of(
    event_name: str, customer: str, value: int | str, timestamp: int, identifier: str | None = None
) -> dict:
    """Write the parameters of a meter event for v1."""
    payload = {"stripe_customer_id": customer, "value": str(value)}
    params = {"event_name": event_name, "payload": payload, "timestamp": timestamp}
    return params | ({"identifier": identifier} if identifier else {})
