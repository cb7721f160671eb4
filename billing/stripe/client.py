"""Stripe's own SDK, made the way we need it: no retries behind our back, a key on every write, a deadline on everything.

Everything that Stripe may answer leaves this file as one of our own errors, so nobody else has to know the SDK's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import stripe

from billing.settings import StripeSettings
from billing.stripe.errors import (
    Answer,
    StripeBusy,
    StripeConflict,
    StripeDeclined,
    StripeDuplicate,
    StripeError,
    StripeFault,
    StripeForbidden,
    StripeKeyMisused,
    StripeMissing,
    StripeNoCustomer,
    StripeNoMeter,
    StripeRefused,
    StripeTimestampRefused,
    StripeUnreachable,
)
from billing.stripe.transport import Transport
from gateway.runtime import metrics

Result = TypeVar("Result")

DUPLICATE_TEXT = "An event already exists with identifier"
"""v1 gives this refusal no code."""
NO_METER_TEXTS = ("No active meter", "No meter found", "No such meter")
DUPLICATE_CODES = frozenset({"duplicate_meter_event"})
NO_METER_CODES = frozenset({"no_meter", "archived_meter"})
NO_CUSTOMER_CODES = frozenset({"meter_event_customer_not_found"})
MISSING_CODES = frozenset({"resource_missing", "not_found"})
"""What v1 and v2 call an object that is not there."""
TIMESTAMP_CODES = frozenset({"timestamp_in_future", "timestamp_too_far_in_past"})

REFUSALS = range(400, 500)
BY_STATUS: Mapping[int, type[StripeError]] = {
    401: StripeForbidden,
    402: StripeDeclined,
    403: StripeForbidden,
    409: StripeConflict,
    429: StripeBusy,
}
RETRY_AFTER_MAX_S = 3_600


class Stripe:
    """The connection of one process to Stripe."""

    def __init__(self, settings: StripeSettings) -> None:
        limits = settings.limits
        self._timeout_s = limits.stripe_timeout_s
        self._transport = Transport(timeout_s=limits.stripe_timeout_s, connections=limits.stripe_concurrency)
        base = settings.api_base
        self._client = stripe.StripeClient(
            settings.secret_key,
            base_addresses={"api": base, "meter_events": base} if base else {},
            max_network_retries=0,
            http_client=self._transport,
        )

    async def write(
        self,
        make: Callable[[stripe.StripeClient, stripe.RequestOptions], Awaitable[Result]],
        *,
        idempotency_key: str,
    ) -> Result:
        """Run a request that changes something, under a key that makes repeating it harmless for 24 hours.

        ``make`` gets the SDK's client and the options to pass on. Raises a ``StripeError``.
        """
        return await self._run(make(self._client, {"idempotency_key": idempotency_key}))

    async def read(self, make: Callable[[stripe.StripeClient], Awaitable[Result]]) -> Result:
        """Run a request that changes nothing; Stripe rations these. Raises a ``StripeError``."""
        metrics.stripe_reads_total.inc()
        return await self._run(make(self._client))

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close_async()

    async def _run(self, request: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await request
        except TimeoutError as error:
            raise StripeUnreachable("Stripe did not answer in time.") from error
        except stripe.StripeError as error:
            raise translate(error) from error


def translate(error: stripe.StripeError) -> StripeError:
    """Say in our words what the SDK says in its own."""
    answer = _answer(error)
    text = (error.user_message or "").strip()
    kind = _kind(error, answer, text)
    return kind(text or None, answer=answer)


def _kind(error: stripe.StripeError, answer: Answer, text: str) -> type[StripeError]:
    if isinstance(error, stripe.APIConnectionError):
        return StripeUnreachable
    if isinstance(error, stripe.RateLimitError):
        return StripeBusy
    if answer.status is not None and answer.status in BY_STATUS:
        return BY_STATUS[answer.status]
    if isinstance(error, stripe.IdempotencyError):
        return StripeKeyMisused
    return _refusal(answer, text) if answer.status in REFUSALS else StripeFault


def _refusal(answer: Answer, text: str) -> type[StripeError]:
    """Tell apart the refusals that have no class of their own in the SDK."""
    code = answer.stripe_code
    if code in DUPLICATE_CODES or text.startswith(DUPLICATE_TEXT):
        return StripeDuplicate
    if code in NO_METER_CODES or text.startswith(NO_METER_TEXTS):
        return StripeNoMeter
    if code in NO_CUSTOMER_CODES or text.startswith("No such customer"):
        return StripeNoCustomer
    if code in TIMESTAMP_CODES:
        return StripeTimestampRefused
    if code in MISSING_CODES:
        return StripeMissing
    return StripeRefused


def _answer(error: stripe.StripeError) -> Answer:
    headers: Mapping[str, str] = error.headers or {}
    retry_after = headers.get("retry-after", "")
    should_retry = headers.get("stripe-should-retry")
    return Answer(
        status=error.http_status,
        stripe_code=error.code or (error.error.code if error.error else None),
        param=getattr(error, "param", None),
        request_id=error.request_id,
        retry_after_s=min(int(retry_after), RETRY_AFTER_MAX_S) if retry_after.isdigit() else None,
        should_retry=None if should_retry is None else should_retry == "true",
        replayed=headers.get("idempotent-replayed") == "true",
    )
