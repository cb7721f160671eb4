"""Proving that a body came from Stripe: ``Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>…]``.

Each ``v1`` is the HMAC-SHA256 of ``<t>.<raw body>`` under the endpoint's secret; there are several while a secret is
being replaced (https://docs.stripe.com/webhooks/signature). Stricter than Stripe's own SDK, which accepts a timestamp
from the future.
"""

import hashlib
import hmac

from gateway.errors import NusagateError

TOLERANCE_S = 300
SIGNATURES_MAX = 16
HEADER_BYTES_MAX = 4_096
SCHEME = "v1"


class WebhookRefused(NusagateError):
    """This was not signed by Stripe, or not now."""

    code = "webhook_refused"


def verify(body: bytes, header: str, secret: str, *, now_s: int) -> None:
    """Check a body against its signature header; ``WebhookRefused`` says what is wrong with it.

    ``now_s`` is Unix seconds. Every signature is compared in constant time.
    """
    if not secret:
        raise WebhookRefused("There is no secret to check the signature with.")
    timestamp, signatures = _parse(header)
    if abs(now_s - timestamp) > TOLERANCE_S:
        raise WebhookRefused(f"The signature is not from the last {TOLERANCE_S} seconds.")
    expected = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest().encode()
    matches = [hmac.compare_digest(expected, signature) for signature in signatures]
    if not any(matches):
        raise WebhookRefused("No signature fits the body.")


def _parse(header: str) -> tuple[int, list[bytes]]:
    """Take the timestamp and the signatures of our scheme out of a header; other schemes are left alone."""
    if len(header) > HEADER_BYTES_MAX:
        raise WebhookRefused("The signature header is too long.")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value.encode("utf-8", "replace") for name, _, value in pairs if name == SCHEME]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):  # noqa: PLR2004
        raise WebhookRefused("The signature header has no timestamp.")
    if not 0 < len(signatures) <= SIGNATURES_MAX:
        raise WebhookRefused("The signature header has no signature.")
    return int(times[0]), signatures
