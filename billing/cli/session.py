"""What a command of this room needs: a pool, because much happens at once, and the connection to Stripe."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from billing.settings import SECRET_KEY, StripeSettings, load_stripe_settings
from gateway.cli.session import command_environment
from gateway.db.pool import DatabaseUnavailable, Pool, open_pool
from gateway.errors import ConfigurationError
from gateway.runtime.settings import load_limits, read_database_url

if TYPE_CHECKING:
    from billing.stripe.client import Stripe

Result = TypeVar("Result")


def with_stripe(work: Callable[[Pool, "Stripe", StripeSettings], Awaitable[Result]]) -> Result:
    """Run some work on a pool and a connection to Stripe; ``ConfigurationError`` where Stripe is not configured."""
    return asyncio.run(_with_stripe(work))


async def _with_stripe(work: Callable[[Pool, "Stripe", StripeSettings], Awaitable[Result]]) -> Result:
    # Loaded here so that commands without Stripe start without its SDK.
    from billing.stripe.client import Stripe  # noqa: PLC0415

    environ = command_environment()
    settings = load_stripe_settings(environ)
    if settings is None:
        raise ConfigurationError(f"Stripe is not configured: {SECRET_KEY} is not set")
    try:
        db = await open_pool(read_database_url(environ), load_limits(environ), application="nusagate command")
    except (OSError, ValueError) as error:
        raise DatabaseUnavailable(f"Postgres cannot be reached: {type(error).__name__}") from error
    stripe = Stripe(settings)
    try:
        return await work(db, stripe, settings)
    finally:
        await stripe.close()
        await db.close()
