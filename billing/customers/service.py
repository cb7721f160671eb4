"""Making an account known at Stripe, and what happens when Stripe forgets it.

A customer is made when it is first needed. One that was deleted at Stripe is parked: nothing is sent for its account,
nothing is lost, and the next customer of the account takes over what waits.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from billing.customers import store
from billing.customers.model import ACCOUNT_KEY, Customer, CustomerState, CustomerUnknown
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeMissing, StripeNoCustomer
from gateway.accounts.model import Account
from gateway.audit import service as audit
from gateway.clock import Clock
from gateway.db.pool import Db, Pool
from gateway.runtime.logging import get_logger

Result = TypeVar("Result")

DELETED = "deleted_at_stripe"

log = get_logger("customers")


async def ensure_customer(db: Db, clock: Clock, stripe: Stripe, account: Account) -> Customer:
    """Return the customer of an account, and make one where it has none or Stripe has forgotten it.

    Two callers at once, and one that lost Stripe's answer within a day, get the same customer: the request's key
    follows from the account and the generation. Raises a ``StripeError``.
    """
    known = await store.find(db, account.account_id)
    if known is not None and known.state is CustomerState.ACTIVE:
        return known
    generation = known.generation + 1 if known else 1
    customer_id = await _create(stripe, account, generation)
    return await _save(db, clock, account.account_id, customer_id, generation)


async def for_customer(
    db: Pool, clock: Clock, stripe: Stripe, account: Account, act: Callable[[str], Awaitable[Result]]
) -> Result:
    """Do something for an account's customer; once more with a new one if Stripe does not know it any more."""
    customer = await ensure_customer(db, clock, stripe, account)
    try:
        return await act(customer.customer_id)
    except StripeNoCustomer as error:
        await park(db, clock, customer.customer_id, reason=error.code)
    customer = await ensure_customer(db, clock, stripe, account)
    return await act(customer.customer_id)


async def park(db: Pool, clock: Clock, customer_id: str, *, reason: str) -> bool:
    """Stop sending for a customer; ``False`` if nobody has it, or it is parked already."""
    async with db.acquire() as connection, connection.transaction():
        account_id = await store.park(connection, customer_id, reason=reason, now=clock.now())
        if account_id is None:
            return False
        await audit.record_decision(
            connection, clock, "customer:park", account_id=account_id, object_id=customer_id, reason=reason
        )
    log.warning("account parked", customer=customer_id, code=reason)
    return True


async def remap(
    db: Db, clock: Clock, stripe: Stripe, account: Account, *, customer_id: str | None = None
) -> Customer:
    """Give an account another customer: a given one that Stripe knows, or a new one.

    ``CustomerUnknown`` or ``CustomerTaken`` for a given one that cannot be it. Raises a ``StripeError``.
    """
    known = await store.find(db, account.account_id)
    generation = known.generation + 1 if known else 1
    if customer_id is None:
        customer_id = await _create(stripe, account, generation)
    elif not await exists(stripe, customer_id):
        raise CustomerUnknown(f"Stripe has no customer {customer_id}.", param="customer")
    return await _save(db, clock, account.account_id, customer_id, generation)


async def exists(stripe: Stripe, customer_id: str) -> bool:
    """Ask Stripe whether it knows a customer that is not deleted. Raises a ``StripeError``."""
    try:
        customer = await stripe.read(lambda sdk: sdk.v1.customers.retrieve_async(customer_id))
    except StripeMissing:
        return False
    return not getattr(customer, "deleted", False)


async def account_of(db: Db, customer_id: str) -> UUID | None:
    """Return whose a customer is; ``None`` for one that is not ours, or that another one has replaced."""
    customer = await store.find_by_customer(db, customer_id)
    return customer.account_id if customer else None


async def _create(stripe: Stripe, account: Account, generation: int) -> str:
    customer = await stripe.write(
        lambda sdk, options: sdk.v1.customers.create_async(
            {"email": account.email, "metadata": {ACCOUNT_KEY: str(account.account_id)}}, options
        ),
        idempotency_key=f"customer:{account.account_id}:{generation}",
    )
    return customer.id


async def _save(db: Db, clock: Clock, account_id: UUID, customer_id: str, generation: int) -> Customer:
    """Write the customer, and return the one that holds now: somebody else may have been a moment earlier."""
    await store.save(db, account_id, customer_id, generation=generation, now=clock.now())
    saved = await store.find(db, account_id)
    assert saved is not None
    return saved
