"""What Stripe found wrong with meter events after it had accepted them: reported later, in batches, with samples only.

A report names a few of the events that it counts. Those are taken in here, one by one; the others are found by
reconciling, because Stripe's sums are too small.
"""

from typing import Any

from billing.stripe.client import Stripe
from billing.sync.service import rejected_later
from gateway.clock import Clock
from gateway.db.pool import Pool
from gateway.runtime.logging import get_logger

log = get_logger("webhooks")


async def take_in_meter_errors(db: Pool, clock: Clock, stripe: Stripe, event_id: str) -> int | None:
    """Fetch a report and let the batches know that it names; return how many were ours. Raises a ``StripeError``."""
    event: Any = await stripe.read(lambda sdk: sdk.v2.core.events.retrieve_async(event_id))
    reason = event.data.reason
    ours = 0
    for found in reason.error_types:
        for identifier in _identifiers(found):
            async with db.acquire() as connection, connection.transaction():
                ours += await rejected_later(connection, clock, identifier, found.code)
    log.error("stripe reports meter errors", count=reason.error_count)
    return ours or None


def _identifiers(found: Any) -> list[str]:
    """Return the identifiers of the samples of one kind of error; a sample may have none."""
    samples = [sample.request for sample in found.sample_errors or () if sample.request]
    return [request.identifier for request in samples if getattr(request, "identifier", None)]
