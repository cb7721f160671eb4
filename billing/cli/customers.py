"""``nusagate stripe``, ``subscription`` and ``webhook``: what is for sale, who bought it, and what Stripe told us."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import rich_click as click

from billing.cli.session import with_stripe
from billing.customers import store as customers_store
from billing.customers.model import Customer
from billing.settings import StripeSettings
from billing.stripe.clock import plan_clock
from billing.subscriptions import store as subscriptions
from billing.subscriptions.model import Price
from billing.webhooks import store as webhooks
from billing.webhooks.model import TYPES
from gateway.accounts import service as accounts
from gateway.cli.audit import keep
from gateway.cli.output import emit, json_option
from gateway.cli.parameters import account_option
from gateway.cli.session import CLOCK, connected, transacted
from gateway.db.pool import Connection, Pool
from gateway.errors import InvalidValue

if TYPE_CHECKING:
    from billing.stripe.client import Stripe

SHOWN = 100


@click.group(epilog="Example: nusagate stripe setup")
def stripe() -> None:
    """Prepare Stripe, and say who an account is there."""


@stripe.command(epilog="Example: nusagate stripe setup")
@json_option
def setup(*, as_json: bool) -> None:
    """Make the meters, products and prices that are missing in Stripe; doing it again changes nothing."""
    # Loaded here, and in the other commands that ask Stripe, so that all others start without its SDK.
    from billing.subscriptions import catalogue  # noqa: PLC0415

    async def work(db: Pool, connection: "Stripe", _: StripeSettings) -> list[Price]:
        return await catalogue.setup(db, CLOCK, connection)

    emit({"prices": msgspec.to_builtins(with_stripe(work))}, as_json=as_json)


@stripe.command("events", epilog="Example: nusagate stripe events")
@json_option
def event_types(*, as_json: bool) -> None:
    """List the types of event that a webhook endpoint in Stripe should ask for."""
    emit({"events": sorted(TYPES)}, as_json=as_json)


@stripe.command(epilog="Example: nusagate stripe remap --account 0198c0de-0000-7000-8000-000000000000")
@account_option
@click.option(
    "--customer", "customer_id", help="A customer that exists in Stripe; a new one is made without it."
)
@json_option
def remap(*, account_id: UUID, customer_id: str | None, as_json: bool) -> None:
    """Give an account another customer, because Stripe does not know its own any more."""
    from billing.customers import service as customers  # noqa: PLC0415

    async def work(db: Pool, connection: "Stripe", _: StripeSettings) -> Customer:
        async with db.acquire() as transaction, transaction.transaction():
            account = await accounts.get(transaction, account_id)
            before = await customers_store.find(transaction, account_id)
            made = await customers.remap(transaction, CLOCK, connection, account, customer_id=customer_id)
            await keep(
                transaction,
                "customer:remap",
                account_id=account_id,
                object_id=made.customer_id,
                before=before and {"customer_id": before.customer_id},
                after={"customer_id": made.customer_id},
            )
            return made

    emit(msgspec.to_builtins(with_stripe(work)), as_json=as_json)


@stripe.command(epilog="Example: nusagate stripe refresh")
@json_option
def refresh(*, as_json: bool) -> None:
    """Compare all running subscriptions with Stripe now, as a worker does every few hours."""
    from billing.subscriptions.refreshing import refresh_all  # noqa: PLC0415

    async def work(db: Pool, connection: "Stripe", settings: StripeSettings) -> int:
        grace = timedelta(days=settings.limits.payment_grace_days)
        return await refresh_all(db, plan_clock(CLOCK, settings), connection, grace)

    emit({"subscriptions": with_stripe(work)}, as_json=as_json)


@click.group(epilog="Example: nusagate subscription show --account 0198c0de-0000-7000-8000-000000000000")
def subscription() -> None:
    """Look at what accounts bought."""


@subscription.command(
    epilog="Example: nusagate subscription show --account 0198c0de-0000-7000-8000-000000000000 --json"
)
@account_option
@json_option
def show(*, account_id: UUID, as_json: bool) -> None:
    """Show an account's customer, subscriptions and disputes, and what they entitle it to."""

    async def read(db: Connection) -> dict[str, Any]:
        await accounts.get(db, account_id)
        return {
            "customer": await customers_store.find(db, account_id),
            "entitlement": await subscriptions.find_entitlement(db, account_id),
            "subscriptions": await subscriptions.subscriptions_of(db, account_id),
            "disputes": await subscriptions.disputes_of(db, account_id),
        }

    emit(msgspec.to_builtins(connected(read)), as_json=as_json)


@click.group(epilog="Example: nusagate webhook failed")
def webhook() -> None:
    """Look at events of Stripe's that could not be worked off."""


@webhook.command(epilog="Example: nusagate webhook failed --json")
@json_option
def failed(*, as_json: bool) -> None:
    """List the events that were given up, oldest first."""
    found = connected(lambda db: webhooks.list_failed(db, SHOWN))
    emit(
        {"events": msgspec.to_builtins(found)},
        as_json=as_json,
        note=None if found else "No event was given up.",
    )


@webhook.command(epilog="Example: nusagate webhook retry evt_1234")
@click.argument("event_id", metavar="EVENT")
@json_option
def retry(*, event_id: str, as_json: bool) -> None:
    """Let an event that was given up be worked off again."""

    async def work(db: Connection) -> None:
        if not await webhooks.retry_failed(db, event_id, CLOCK.now()):
            raise InvalidValue(f"The event {event_id!r} was not given up.", param="event")
        await keep(db, "webhook:retry", object_id=event_id)

    transacted(work)
    emit({"event": event_id, "state": "waiting"}, as_json=as_json)
