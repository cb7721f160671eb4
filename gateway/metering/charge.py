"""What a request is charged, by how it ended: one table, for every endpoint and every upstream.

The policy, which the product's documentation repeats:

* an upstream that finished is charged by its own usage block, to the token;
* an upstream that finished without a usable block is charged an estimate, flagged;
* a request that was cut short is charged the upstream's last word if there is one, else an estimate of what was
  delivered, and nothing if nothing was.
"""

import msgspec

from gateway.ledger.model import Charge, EndReason, UsageSource
from gateway.metering.bounds import fit_estimate, settle_estimate
from gateway.metering.usage import Flaw, UsageReading
from gateway.units import TokenCounts, Tokens

FINISHED = frozenset({EndReason.COMPLETED, EndReason.INCOMPLETE, EndReason.CLIENT_GONE_DRAINED})


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer when its request ends.

    ``reading`` is the last usage block seen, ``delivered_bytes`` the UTF-8 bytes that the model wrote, and
    ``counted`` the token counts of a request whose texts the upstream counted for us, if it offers that.
    """

    reading: UsageReading
    delivered_bytes: int
    counted: TokenCounts | None = None


def charge(
    ending: EndReason, delivery: Delivery, *, input_tokens: Tokens, reserved_tokens: Tokens
) -> Charge | None:
    """Decide what a request is charged; ``None`` releases it, because nothing was served."""
    reading = delivery.reading
    flaw = None if reading.flaw is None or reading.flaw is Flaw.DETAILS_MISSING else reading.flaw.value
    raw = reading.raw if isinstance(reading.raw, dict) else None
    finished = ending in FINISHED
    if reading.counts is not None:
        source = UsageSource.UPSTREAM if finished else UsageSource.PARTIAL
        return Charge(counts=reading.counts, source=source, flaw=flaw, raw_usage=raw)
    if not finished and delivery.delivered_bytes == 0:
        return None
    counted = delivery.counted
    counts = (
        settle_estimate(
            input_tokens=input_tokens,
            delivered_bytes=delivery.delivered_bytes,
            reserved_tokens=reserved_tokens,
        )
        if counted is None
        else fit_estimate(counted.input_text, counted.output_text, reserved_tokens=reserved_tokens)
    )
    return Charge(counts=counts, source=UsageSource.ESTIMATED, flaw=flaw, raw_usage=raw)
