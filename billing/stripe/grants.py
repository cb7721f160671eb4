"""Credit grants: money for the metered lines of a customer's next invoices."""

import stripe

from billing.stripe.client import Stripe
from gateway.units import Currency

KEY_KEY = "nusagate_key"
"""The metadata under which a grant names the key of its request, so that it is found after Stripe forgot the key."""
PAGE = 100


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
        "metadata": {KEY_KEY: idempotency_key},
    }
    await client.write(
        lambda sdk, options: sdk.v1.billing.credit_grants.create_async(params, options),
        idempotency_key=idempotency_key,
    )


async def is_granted(client: Stripe, customer_id: str, idempotency_key: str) -> bool:
    """Tell whether one of a customer's latest grants was made by a request of this key. One read; a ``StripeError``."""
    page = await client.read(
        lambda sdk: sdk.v1.billing.credit_grants.list_async({"customer": customer_id, "limit": PAGE})
    )
    known = [found.metadata.to_dict() for found in page.data if found.metadata]
    return any(metadata.get(KEY_KEY) == idempotency_key for metadata in known)
