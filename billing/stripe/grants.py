"""Credit grants: money for the metered lines of a customer's next invoices."""

import stripe

from billing.stripe.client import Stripe
from gateway.units import Currency


async def grant(
    client: Stripe, customer_id: str, currency: Currency, minor: int, *, name: str, idempotency_key: str
) -> None:
    """Give a customer ``minor`` units for metered prices. Raises a ``StripeError``."""
    params: stripe.params.billing.CreditGrantCreateParams = {
        "customer": customer_id,
        "name": name,
        "category": "promotional",
        "amount": {"type": "monetary", "monetary": {"currency": currency, "value": minor}},
        "applicability_config": {"scope": {"price_type": "metered"}},
    }
    await client.write(
        lambda sdk, options: sdk.v1.billing.credit_grants.create_async(params, options),
        idempotency_key=idempotency_key,
    )
