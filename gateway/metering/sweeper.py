"""What a killed gateway left behind: every request it had admitted is ended here, once.

A gateway that lives says so for its open requests every few seconds. A request that was not heard of for longer is
charged an estimate of what its last checkpoint says was delivered, flagged, and nothing where nothing was.
"""

import math

from gateway.clock import monotonic_s
from gateway.db.pool import Pool
from gateway.ids import uuid7
from gateway.ledger import store
from gateway.ledger.model import EndReason, Settlement, StaleIntent, UsageSource
from gateway.metering.bounds import settle_estimate
from gateway.prices.model import cost
from gateway.prices.service import load_book
from gateway.runtime import metrics
from gateway.runtime.failpoints import failpoint
from gateway.runtime.logging import get_logger
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts

log = get_logger("sweeper")

PAGE = 500
TURN_LATE_S = 5
"""More than the pause between two turns, and less than any gateway may be silent."""
FLAW = "gateway_crash"


class Sweeper:
    """Ends the requests of gateways that fell silent.

    After an outage of Postgres every open request looks forgotten, although its gateway lives. So nothing is swept until
    Postgres has answered here, turn after turn, for as long as a gateway may be silent. A turn that failed is one that
    never came: whatever failed in it, the lease before the sweep included, the next one is late.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._answering_since_s = -math.inf
        self._answered_s = -math.inf

    async def sweep(self, db: Pool) -> int:
        """Sweep if it is time; return how many requests were ended."""
        await store.stale_intents(db, unheard_s=self._limits.sweep_after_s, limit=1)
        now_s = monotonic_s()
        if now_s - self._answered_s > TURN_LATE_S:
            self._answering_since_s = now_s
        self._answered_s = now_s
        if now_s - self._answering_since_s < self._limits.sweep_after_s:
            return 0
        return await _sweep_all(db, self._limits)


async def _sweep_all(db: Pool, limits: Limits) -> int:
    swept = 0
    while stale := await store.stale_intents(db, unheard_s=limits.sweep_after_s, limit=PAGE):
        failpoint("sweeper.before_commit")
        closed = await store.settle(db, [await _settlement(db, intent) for intent in stale])
        failpoint("sweeper.after_commit")
        swept += len(closed)
        metrics.sweeps_total.inc(len(closed))
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
