"""Stripe's errors in our words: what went wrong, and above all whether the request may have taken effect.

Sources: https://docs.stripe.com/error-handling and https://docs.stripe.com/error-low-level (``stripe-should-retry``,
``Retry-After``, ``Idempotent-Replayed``). Two of them have no ``code`` and are known by their text alone.
"""

from enum import StrEnum
from typing import ClassVar

import msgspec

from gateway.errors import NusagateError


class Effect(StrEnum):
    """What is known about the effect of a request that was not answered with success."""

    NONE = "none"
    """Nothing happened."""
    UNKNOWN = "unknown"
    """It may have happened."""
    DONE = "done"
    """It had happened before."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What Stripe said about a request; all ``None`` where it said nothing."""

    status: int | None = None
    stripe_code: str | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after_s: int | None = None
    should_retry: bool | None = None
    """What ``stripe-should-retry`` says."""
    replayed: bool = False
    """Whether this is the stored answer to an earlier request with the same key."""


class StripeError(NusagateError):
    """Stripe did not do what it was asked."""

    code = "stripe_error"
    effect: ClassVar[Effect] = Effect.UNKNOWN

    def __init__(self, message: str | None = None, *, answer: Answer | None = None) -> None:
        super().__init__(message)
        self.answer = answer or Answer()


class StripeUnreachable(StripeError):
    """Stripe could not be reached, or did not answer in time."""

    code = "stripe_unreachable"


class StripeFault(StripeError):
    """Stripe failed, or answered with something that cannot be read."""

    code = "stripe_fault"


class StripeConflict(StripeError):
    """Stripe is still working on an earlier request with the same idempotency key."""

    code = "stripe_conflict"


class StripeBusy(StripeError):
    """Stripe asks for fewer requests."""

    code = "stripe_busy"
    effect = Effect.NONE


class StripeForbidden(StripeError):
    """Stripe does not accept the secret key, or the key may not do this."""

    code = "stripe_forbidden"
    effect = Effect.NONE


class StripeDuplicate(StripeError):
    """Stripe has an event with this identifier already."""

    code = "stripe_duplicate"
    effect = Effect.DONE


class StripeRefused(StripeError):
    """Stripe refused the request as it is; sending it again changes nothing."""

    code = "stripe_refused"
    effect = Effect.NONE


class StripeKeyMisused(StripeRefused):
    """The idempotency key was used before, with another request."""

    code = "stripe_key_misused"


class StripeMissing(StripeRefused):
    """Stripe does not know what the request speaks of."""

    code = "stripe_missing"


class StripeNoCustomer(StripeMissing):
    """Stripe does not know the customer, or it was deleted there."""

    code = "stripe_no_customer"


class StripeNoMeter(StripeRefused):
    """Stripe has no active meter for the event."""

    code = "stripe_no_meter"


class StripeTimestampRefused(StripeRefused):
    """Stripe takes events of the last 35 days only, and none from the future."""

    code = "stripe_timestamp_refused"


class StripeDeclined(StripeRefused):
    """The card was declined."""

    code = "stripe_declined"
