"""What a killed gateway left behind: every request it had admitted is ended here, once.

A gateway that lives says so for its open requests every few seconds. A request that was not heard of for longer is
charged an estimate of what its last checkpoint says was delivered, flagged, and nothing where nothing was.
"""

from gateway.db.pool import Pool
from gateway.ids import uuid7
from gateway.ledger import store
from gateway.ledger.model import EndReason, Settlement, StaleIntent, UsageSource
from gateway.metering.bounds import settle_estimate
from gateway.prices.model import cost
from gateway.prices.service import load_book
from gateway.runtime import metrics
from gateway.runtime.logging import get_logger
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts

log = get_logger("sweeper")

PAGE = 500
FLAW = "gateway_crash"


async def sweep(db: Pool, limits: Limits) -> int:
    """End the requests of gateways that fell silent; return how many there were."""
    swept = 0
    while stale := await store.stale_intents(db, unheard_s=limits.sweep_after_s, limit=PAGE):
        closed = await store.settle(db, [await _settlement(db, intent) for intent in stale])
        swept += len(closed)
        metrics.sweeps_total.labels("settled").inc(len(closed))
        log.warning("requests swept", count=len(closed))
    return swept


async def _settlement(db: Pool, intent: StaleIntent) -> Settlement:
    counts = TokenCounts()
    if intent.delivered_bytes > 0:
        counts = settle_estimate(
            input_tokens=intent.input_tokens,
            delivered_bytes=intent.delivered_bytes,
            reserved_tokens=intent.reserved_tokens,
        )
    book = await load_book(db, intent.book_id)
    return Settlement(
        request_id=intent.request_id,
        account_id=intent.account_id,
        entry_id=uuid7(),
        released=False,
        end_reason=EndReason.GATEWAY_CRASH,
        upstream=intent.upstream,
        duration_ms=intent.age_ms,
        input_text_tokens=counts.input_text,
        output_text_tokens=counts.output_text,
        amount_pico=cost(book, intent.model, counts),
        usage_source=UsageSource.ESTIMATED,
        usage_flaw=FLAW,
    )
