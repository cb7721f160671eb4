"""What billing is told from outside: whether there is Stripe, and how hard it may be asked.

Read from the environment the same way as ``gateway.runtime.settings``; without a secret key there is no Stripe, and
everything else works as ever.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gateway.errors import ConfigurationError
from gateway.runtime.settings import read_limits, read_optional, read_url

SECRET_KEY = "NUSAGATE_STRIPE_SECRET_KEY"  # noqa: S105 - the name of a variable
WEBHOOK_SECRET = "NUSAGATE_STRIPE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
THIN_WEBHOOK_SECRET = "NUSAGATE_STRIPE_THIN_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
API_BASE = "NUSAGATE_STRIPE_API_BASE"
CLOCK_FILE = "NUSAGATE_STRIPE_CLOCK_FILE"

KEY_PREFIXES = ("sk_", "rk_")
LIVE_PREFIXES = ("sk_live_", "rk_live_")
WEBHOOK_PREFIX = "whsec_"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

LIVE_EVENTS_PER_S = 400
"""Stripe takes 1,000 meter events a second; the rest is for retries and for other programs."""
TEST_EVENTS_PER_S = 20
"""A Stripe sandbox takes 25 requests a second of all kinds."""
OWN_SANDBOX_EVENTS_PER_S = 10_000


class StripeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what is asked of Stripe; each can be set as ``NUSAGATE_`` and its name in capitals."""

    stripe_timeout_s: int = 20
    """The deadline of one request, connecting and reading included."""
    stripe_concurrency: int = 32
    """Requests at once."""
    stripe_events_per_s: int | None = None
    """Meter events a second; what the kind of key allows where it is not set."""
    stripe_settle_delay_s: int = 300
    """How long after its end an hour is frozen, for what was admitted in its last moments."""
    stripe_reads_per_run: int = 100
    """Reads of one reconciling run; Stripe's smallest allocation is 10,000 a month."""
    payment_grace_days: int = 7
    """How long keys go on working after a payment failed."""


class StripeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach Stripe, and the bounds on what it is asked."""

    secret_key: str
    webhook_secret: str
    thin_webhook_secret: str | None = None
    api_base: str | None = None
    """Another address than Stripe's own: that of the sandbox."""
    clock_file: Path | None = None
    """Where a sandbox on this machine says how far its time was moved ahead; see ``billing.stripe.clock``."""
    limits: StripeLimits = StripeLimits()

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return "StripeSettings(…)"

    @property
    def live(self) -> bool:
        """Whether real money moves."""
        return self.secret_key.startswith(LIVE_PREFIXES)

    @property
    def events_per_s(self) -> int:
        """Return how many meter events may be sent in a second."""
        if self.limits.stripe_events_per_s is not None:
            return self.limits.stripe_events_per_s
        if self.api_base is not None:
            return OWN_SANDBOX_EVENTS_PER_S
        return LIVE_EVENTS_PER_S if self.live else TEST_EVENTS_PER_S


def load_stripe_settings(environ: Mapping[str, str]) -> StripeSettings | None:
    """Read what concerns Stripe; ``None`` without a secret key, ``ConfigurationError`` where something is wrong."""
    secret_key = read_optional(environ, SECRET_KEY)
    if secret_key is None:
        return None
    if not secret_key.startswith(KEY_PREFIXES):
        raise ConfigurationError(f"{SECRET_KEY} must be a secret or restricted key, sk_… or rk_…")
    thin = read_optional(environ, THIN_WEBHOOK_SECRET)
    api_base = read_url(environ, API_BASE, "") if read_optional(environ, API_BASE) else None
    return StripeSettings(
        secret_key=secret_key,
        webhook_secret=_webhook_secret(WEBHOOK_SECRET, read_optional(environ, WEBHOOK_SECRET)),
        thin_webhook_secret=None if thin is None else _webhook_secret(THIN_WEBHOOK_SECRET, thin),
        api_base=api_base,
        clock_file=_clock_file(read_optional(environ, CLOCK_FILE), api_base),
        limits=read_limits(environ, StripeLimits),
    )


def _webhook_secret(name: str, secret: str | None) -> str:
    """Check a signing secret: an empty one would let anybody sign."""
    if secret is None:
        raise ConfigurationError(f"{name} is not set, and without it anybody could forge Stripe's webhooks")
    if not secret.startswith(WEBHOOK_PREFIX) or secret == WEBHOOK_PREFIX:
        raise ConfigurationError(f"{name} must be a signing secret, {WEBHOOK_PREFIX}…")
    return secret


def _clock_file(path: str | None, api_base: str | None) -> Path | None:
    """Read whose time the plans follow; only a sandbox on this machine may have a time of its own."""
    if path is None:
        return None
    if urlsplit(api_base or "").hostname not in LOOPBACK_HOSTS:
        raise ConfigurationError(
            f"{CLOCK_FILE} is for a Stripe sandbox on this machine, and {API_BASE} names none"
        )
    return Path(path)
