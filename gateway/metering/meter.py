"""The hold of a request: reserved before anything is sent, and settled or released exactly once after.

One object owns both ends, so that no path through the gateway can forget the second one.
"""

import math

import msgspec

from gateway.clock import monotonic_s
from gateway.db.pool import UNAVAILABLE, Pool
from gateway.ids import uuid7
from gateway.ledger.model import JSON_NULL, Charge, EndReason, KeptAnswer, Settlement, UsageSource
from gateway.ledger.service import Ledger
from gateway.metering.charge import Delivery, charge
from gateway.prices.model import cost
from gateway.prices.service import BookCache
from gateway.quota.model import Engine, Reservation, ReserveRequest
from gateway.quota.port import Quota
from gateway.runtime import metrics
from gateway.units import AmountPico, Tokens

MILLISECONDS_PER_SECOND = 1_000
KEPT_MAX_BYTES = 8 * 2**20
"""A larger answer is given but not kept: Postgres could not take it in time, and its entry must not wait for it."""


class Meter:
    """Admits requests and records how they end."""

    def __init__(self, db: Pool, quota: Quota, ledger: Ledger, books: BookCache) -> None:
        self._db = db
        self._quota = quota
        self._ledger = ledger
        self._books = books

    async def admit(self, request: ReserveRequest) -> "Hold":
        """Reserve a request's tokens; raises what refuses it, and then nothing is held."""
        started_s = monotonic_s()
        try:
            reservation = await self._quota.reserve(request)
            # Kept from here on: what the end costs must be known without Postgres.
            await self._books.get(self._db, reservation.book_id)
        except UNAVAILABLE:
            # The answer was lost, not necessarily the reservation.
            await self._ledger.release_if_held(_release(request))
            raise
        return Hold(self, request, reservation, started_s)

    @property
    def engine(self) -> Engine:
        """The engine that decides limits at the moment."""
        return self._quota.engine

    @property
    def refuses(self) -> bool:
        """Whether a request that was admitted now could not be recorded."""
        return self._ledger.refuses

    async def record(self, hold: "Hold", settlement: Settlement, charged: Charge | None) -> None:
        """Commit the end of a request with its amount, and count it."""
        if charged is not None:
            book = await self._books.get(self._db, hold.reservation.book_id)
            settlement = _with_charge(settlement, charged, cost(book, hold.request.model, charged.counts))
        await self._ledger.settle(settlement)
        self._quota.settled(hold.request, 0 if charged is None else charged.counts.total)
        _count(hold, settlement, charged)

    async def close(self) -> None:
        """Wait for admissions and settlements under way."""
        await self._quota.close()
        await self._ledger.close()


class Hold:
    """One admitted request, from its reservation to its end."""

    def __init__(
        self, meter: Meter, request: ReserveRequest, reservation: Reservation, started_s: float
    ) -> None:
        self.request = request
        self.reservation = reservation
        self._meter = meter
        self._started_s = started_s
        self._first_byte_ms: int | None = None

    def mark_first_byte(self) -> None:
        """Remember when the first byte of the answer came."""
        if self._first_byte_ms is None:
            self._first_byte_ms = self._elapsed_ms()

    def charge(self, ending: EndReason, delivery: Delivery) -> Charge | None:
        """Say what the request will be charged if it ends now; ``None`` releases it."""
        return charge(
            ending,
            delivery,
            input_tokens=Tokens(self.request.input_tokens),
            reserved_tokens=Tokens(self.reservation.reserved_tokens),
        )

    async def settle(
        self,
        ending: EndReason,
        charged: Charge | None,
        *,
        upstream: str | None,
        kept: KeptAnswer | None,
        replay: tuple[str, bytes] | None,
    ) -> None:
        """Settle or release the request; it is committed when this returns.

        ``kept`` and ``replay`` (an Idempotency-Key and the answer under it) commit with the entry; an answer above
        ``KEPT_MAX_BYTES``, or one that is no text, is not kept.
        """
        if kept is not None and len(kept.response) > KEPT_MAX_BYTES:
            kept = None
        replay_body = None if replay is None else _text_to_keep(replay[1])
        settlement = Settlement(
            request_id=self.request.request_id,
            account_id=self.request.account_id,
            entry_id=uuid7(),
            released=charged is None,
            end_reason=ending,
            upstream=upstream,
            duration_ms=self._elapsed_ms(),
            first_byte_ms=self._first_byte_ms,
            kept_id=None if kept is None else kept.response_id,
            kept_previous_id=None if kept is None else kept.previous_response_id,
            kept_days=None if kept is None else kept.keep_days,
            kept_input=JSON_NULL if kept is None else kept.input_items,
            kept_response=JSON_NULL if kept is None else kept.response,
            replay_key=None if replay is None or replay_body is None else replay[0],
            replay_body=replay_body,
        )
        await self._meter.record(self, settlement, charged)

    def _elapsed_ms(self) -> int:
        return math.ceil((monotonic_s() - self._started_s) * MILLISECONDS_PER_SECOND)


def _text_to_keep(answer: bytes) -> str | None:
    """Return an answer as the text that may be kept; an upstream can send bytes that are none, where nobody reads them."""
    try:
        return answer.decode() if len(answer) <= KEPT_MAX_BYTES else None
    except UnicodeDecodeError:
        return None


def _release(request: ReserveRequest) -> Settlement:
    return Settlement(
        request_id=request.request_id,
        account_id=request.account_id,
        entry_id=uuid7(),
        released=True,
        end_reason=EndReason.UPSTREAM_ERROR,
        upstream=None,
        duration_ms=0,
    )


def _with_charge(settlement: Settlement, charged: Charge, amount_pico: AmountPico) -> Settlement:
    counts = charged.counts
    return msgspec.structs.replace(
        settlement,
        input_text_tokens=counts.input_text,
        input_cached_tokens=counts.input_cached,
        input_audio_tokens=counts.input_audio,
        output_text_tokens=counts.output_text,
        output_reasoning_tokens=counts.output_reasoning,
        output_audio_tokens=counts.output_audio,
        amount_pico=amount_pico,
        usage_source=charged.source,
        usage_flaw=charged.flaw,
        raw_usage=charged.raw_usage,
    )


def _count(hold: Hold, settlement: Settlement, charged: Charge | None) -> None:
    model = hold.request.model
    metrics.count(metrics.endings_total, model, settlement.end_reason)
    seconds = settlement.duration_ms / MILLISECONDS_PER_SECOND
    metrics.observe(metrics.request_seconds, hold.request.endpoint, value=seconds)
    if charged is None:
        return
    metrics.count(metrics.tokens_total, model, "input", by=charged.counts.input_total)
    metrics.count(metrics.tokens_total, model, "output", by=charged.counts.output_total)
    overshoot = charged.counts.total - hold.reservation.reserved_tokens
    if overshoot > 0:
        metrics.quota_overshoot_tokens_total.inc(overshoot)
    if charged.flaw is not None or charged.source is UsageSource.ESTIMATED:
        metrics.usage_flaws_total.labels(charged.flaw or "cut_short").inc()
