"""The Stripe sandbox of ``nusagate dev``: what the processes must know of it, how it starts, and what is for sale there.

Who has a Stripe account of their own sets ``NUSAGATE_STRIPE_SECRET_KEY`` and what belongs to it; then there is no
sandbox, and ``nusagate stripe setup`` is typed by hand.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from billing.settings import (
    API_BASE,
    CLOCK_FILE,
    SECRET_KEY,
    THIN_WEBHOOK_SECRET,
    WEBHOOK_PREFIX,
    WEBHOOK_SECRET,
    load_stripe_settings,
)
from billing.webhooks.http import SNAPSHOT_PATH, THIN_PATH
from gateway.clock import Clock
from gateway.db.pool import Connection
from gateway.errors import ConfigurationError
from gateway.runtime.settings import read_optional

STATE_FILE = "stripe.json"
OFFSET_FILE = "stripe.clock"
KEY_PREFIX = "sk_test_"
PREFIXES = {SECRET_KEY: KEY_PREFIX, WEBHOOK_SECRET: WEBHOOK_PREFIX, THIN_WEBHOOK_SECRET: WEBHOOK_PREFIX}


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether nobody named a Stripe account of their own."""
    return read_optional(environ, SECRET_KEY) is None


def sandbox_settings(kept: Mapping[str, str], folder: Path, port: int) -> dict[str, str]:
    """Return the settings of every process; the secrets are made once and kept."""
    made = {name: kept.get(name) or prefix + secrets.token_hex(24) for name, prefix in PREFIXES.items()}
    return {**made, API_BASE: f"http://127.0.0.1:{port}", CLOCK_FILE: str(folder / OFFSET_FILE)}


def sandbox_arguments(folder: Path, port: int, admin_port: int) -> list[str]:
    """Return the sandbox's command line; its secrets are in its environment."""
    portal = f"http://127.0.0.1:{admin_port}"
    return [
        *("--port", str(port), "--state", str(folder / STATE_FILE), "--clock", str(folder / OFFSET_FILE)),
        *("--webhook", portal + SNAPSHOT_PATH, "--thin-webhook", portal + THIN_PATH),
    ]


async def offer_plans(connection: Connection, clock: Clock, environ: Mapping[str, str]) -> None:
    """Put at the sandbox what is for sale. Raises a ``StripeError``."""
    # Loaded here, when the other processes are starting, because Stripe's SDK takes its time.
    from billing.stripe.client import Stripe  # noqa: PLC0415
    from billing.subscriptions import catalogue  # noqa: PLC0415

    settings = load_stripe_settings(environ)
    if settings is None:
        raise ConfigurationError(f"{SECRET_KEY} is not set")
    stripe = Stripe(settings)
    try:
        await catalogue.setup(connection, clock, stripe)
    finally:
        await stripe.close()
