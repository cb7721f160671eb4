"""What a batch is, and what becomes of it after each attempt: pure decisions that the store only writes down.

The payload of a batch is frozen before it is first sent, so sending it again is the same event. Stripe promises to
recognise it by its identifier and idempotency key for 24 hours; therefore nothing is sent blindly after 20.
"""

import hashlib
import random
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.stripe.errors import (
    Effect,
    StripeError,
    StripeFault,
    StripeForbidden,
    StripeNoCustomer,
    StripeRefused,
)
from billing.stripe.model import MeterEvent
from gateway.errors import NusagateError

BLIND_RETRIES = timedelta(hours=20)
"""Stripe forgets identifiers and idempotency keys after 24 hours at the earliest."""
OLDEST_EVENT = timedelta(days=34)
"""Stripe takes events of the past 35 days."""
LEASE = timedelta(seconds=120)
"""More than the deadline of a request and the wait of its batch for a free connection."""
CIRCUIT_PAUSE = timedelta(minutes=5)
"""How long nothing is sent after Stripe refused the key."""

BACKOFF_MIN_MS = 1_000
BACKOFF_MAX_MS = 15 * 60 * 1_000
BACKOFF_DOUBLINGS_MAX = 20

NEVER_SENT_TOO_OLD = "too_old"
UNKNOWN_FOR_TOO_LONG = "unknown_for_too_long"


class BatchState(StrEnum):
    """Where a batch stands; a batch of a parked account waits."""

    EMPTY = "empty"
    """Never sent: less than one unit of Stripe's, which is carried on, or old usage that was written off."""
    WAITING = "waiting"
    """To be sent when its next attempt is due."""
    SENDING = "sending"
    """Leased by a worker."""
    ACCEPTED = "accepted"
    """Stripe said that it has it."""
    CONFIRMED = "confirmed"
    """Stripe's own sums contain it."""
    UNPROVEN = "unproven"
    """Stripe may have it, and asking again could count it twice; only reconciling resolves this."""
    DEAD = "dead"
    """Stripe refuses it as it is; an operator must look."""


class BatchNotFound(NusagateError):
    """No batch has this id."""

    code = "batch_not_found"


class BatchNotRetryable(NusagateError):
    """A batch in this state is not retried."""

    code = "batch_not_retryable"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was leased for one attempt."""

    batch_id: UUID
    account_id: UUID
    event: MeterEvent
    generation: int
    idempotency_key: str
    payload_sha256: bytes
    attempts: int
    """Attempts that were begun, this one included; also the fence that keeps an old worker from writing."""
    leased_at: datetime
    lease_until: datetime
    unsure_since: datetime | None
    """When the first of the earlier attempts began whose effect is unknown."""


def payload_sha256(event: MeterEvent) -> bytes:
    """Digest what an event says, as the database does when it freezes a batch."""
    said = (
        event.event_name,
        event.identifier,
        str(int(event.event_at.timestamp())),
        event.customer_id,
        str(event.value),
    )
    return hashlib.sha256("\n".join(said).encode()).digest()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a batch after an attempt, or instead of one."""

    batch_id: UUID
    generation: int
    attempts: int
    state: BatchState
    next_attempt_at: datetime
    first_attempt_at: datetime | None
    """When the first attempt began whose effect is still unknown."""
    last_error: str | None = None
    last_status: int | None = None
    last_request_id: str | None = None
    parks: bool = False
    """Whether nothing can be sent for its account until it has another customer."""


def screen(batch: Batch, now: datetime) -> Verdict | None:
    """Decide about a batch before it is sent: ``None`` lets it go."""
    if payload_sha256(batch.event) != batch.payload_sha256:
        return _verdict(batch, BatchState.DEAD, now, unsure_since=batch.unsure_since, error="payload_changed")
    if batch.unsure_since is not None and now - batch.unsure_since >= BLIND_RETRIES:
        return _verdict(
            batch, BatchState.UNPROVEN, now, unsure_since=batch.unsure_since, error=UNKNOWN_FOR_TOO_LONG
        )
    if now - batch.event.event_at >= OLDEST_EVENT:
        state = BatchState.DEAD if batch.unsure_since is None else BatchState.UNPROVEN
        return _verdict(batch, state, now, unsure_since=batch.unsure_since, error=NEVER_SENT_TOO_OLD)
    return None


def give_back(batch: Batch, now: datetime) -> Verdict:
    """Return a batch unsent, because its lease is about to end or Stripe does not want our key."""
    return _verdict(batch, BatchState.WAITING, now, unsure_since=batch.unsure_since, error=None)


def judge(batch: Batch, error: StripeError | None, *, now: datetime, dice: random.Random) -> Verdict:
    """Decide what an attempt came to; ``error`` is ``None`` where Stripe took the event.

    A batch whose customer Stripe does not know waits: its account is parked, and only a new customer ends that.
    """
    if error is None or error.effect is Effect.DONE:
        return _verdict(batch, BatchState.ACCEPTED, now, unsure_since=None, error=error)
    unsure_since = batch.unsure_since
    if error.effect is Effect.UNKNOWN:
        unsure_since = unsure_since or batch.leased_at
    if isinstance(error, StripeForbidden):
        return _verdict(
            batch, BatchState.WAITING, now + CIRCUIT_PAUSE, unsure_since=unsure_since, error=error
        )
    if isinstance(error, StripeNoCustomer):
        waits = _verdict(batch, BatchState.WAITING, now, unsure_since=unsure_since, error=error)
        return msgspec.structs.replace(waits, parks=True)
    if isinstance(error, StripeRefused) and not error.answer.should_retry:
        return _verdict(batch, BatchState.DEAD, now, unsure_since=unsure_since, error=error)
    if unsure_since is not None and (_is_final(error) or now - unsure_since >= BLIND_RETRIES):
        return _verdict(batch, BatchState.UNPROVEN, now, unsure_since=unsure_since, error=error)
    delay_ms = backoff_ms(batch.attempts, error.answer.retry_after_s, dice)
    return _verdict(
        batch,
        BatchState.WAITING,
        now + timedelta(milliseconds=delay_ms),
        unsure_since=unsure_since,
        error=error,
    )


def backoff_ms(attempts: int, retry_after_s: int | None, dice: random.Random) -> int:
    """Choose a wait with full jitter, 1 s to 15 min, and never less than Stripe asked for."""
    most = min(BACKOFF_MAX_MS, BACKOFF_MIN_MS << min(attempts, BACKOFF_DOUBLINGS_MAX))
    wait_ms = dice.randint(BACKOFF_MIN_MS, most)
    return max(wait_ms, (retry_after_s or 0) * 1_000)


def _is_final(error: StripeError) -> bool:
    """Tell whether asking again with this key can only bring the same answer: v1 replays its stored 500s."""
    return isinstance(error, StripeFault) and (error.answer.replayed or error.answer.should_retry is False)


def _verdict(
    batch: Batch,
    state: BatchState,
    next_attempt_at: datetime,
    *,
    unsure_since: datetime | None,
    error: StripeError | str | None,
) -> Verdict:
    answer = error.answer if isinstance(error, StripeError) else None
    return Verdict(
        batch_id=batch.batch_id,
        generation=batch.generation,
        attempts=batch.attempts,
        state=state,
        next_attempt_at=next_attempt_at,
        first_attempt_at=unsure_since,
        last_error=_error_label(error),
        last_status=answer.status if answer else None,
        last_request_id=answer.request_id if answer else None,
    )


def _error_label(error: StripeError | str | None) -> str | None:
    """Name an error by codes alone: Stripe's texts may repeat what was sent."""
    if not isinstance(error, StripeError):
        return error
    stripe_code = error.answer.stripe_code
    return f"{error.code}:{stripe_code}" if stripe_code else error.code
