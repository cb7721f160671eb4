"""Applying what an account is entitled to: plan and status change in one transaction, and every gateway hears of it.

Only a change of the entitlement is applied. So a plan that an operator gave stays until something happens to the
account's subscription, and an account that an operator suspended stays suspended, whatever is paid.
"""

from datetime import timedelta
from uuid import UUID

from billing.credit.standing import has_credit
from billing.subscriptions import store
from billing.subscriptions.model import FREE_PLAN, Entitlement, entitle
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus
from gateway.audit import service as audit
from gateway.clock import Clock
from gateway.db.pool import Connection, Pool
from gateway.runtime.logging import get_logger

log = get_logger("subscriptions")

NOTHING = Entitlement(plan_id=FREE_PLAN, status=AccountStatus.ACTIVE)
"""What an account is entitled to that never had a subscription."""
REVIEWS_PAGE = 100


async def apply_entitlement(db: Pool, clock: Clock, account_id: UUID, grace: timedelta) -> Entitlement:
    """Bring an account's plan and status to what its subscriptions and payments entitle it to now."""
    async with db.acquire() as connection, connection.transaction():
        return await apply_entitlement_in(connection, clock, account_id, grace)


async def apply_entitlement_in(
    connection: Connection, clock: Clock, account_id: UUID, grace: timedelta
) -> Entitlement:
    """Do the same in a transaction of the caller's."""
    status = await store.lock_account(connection, account_id)
    before = await store.find_entitlement(connection, account_id)
    subscriptions = await store.subscriptions_of(connection, account_id)
    running = sum(subscription.running for subscription in subscriptions)
    if running > 1:
        # The newest gives the plan; somebody must cancel the others in Stripe, or the owner pays for them, too.
        log.error("several subscriptions run", account_id=str(account_id), count=running)
    after = entitle(
        subscriptions,
        await store.disputes_of(connection, account_id),
        now=clock.now(),
        grace=grace,
        has_credit=await has_credit(connection, clock, account_id),
    )
    if status is not None and after != before:
        await _apply(connection, account_id, status, before or NOTHING, after)
        await store.save_entitlement(connection, account_id, after, clock.now())
        await audit.record_decision(
            connection, clock, "account:entitle", account_id=account_id, before=before or NOTHING, after=after
        )
    return after


async def review_due(db: Pool, clock: Clock, grace: timedelta) -> int:
    """Apply what time alone has changed: graces that are over, held plans that end. Return how many accounts."""
    due = await store.due_reviews(db, clock.now(), REVIEWS_PAGE)
    for account_id in due:
        await apply_entitlement(db, clock, account_id, grace)
    return len(due)


async def _apply(
    connection: Connection,
    account_id: UUID,
    status: AccountStatus,
    before: Entitlement,
    after: Entitlement,
) -> None:
    if after.plan_id != before.plan_id:
        await accounts.set_plan(connection, account_id, after.plan_id)
    if after.status is not before.status and status is not AccountStatus.SUSPENDED:
        await accounts.set_status(connection, account_id, after.status)
    log.info(
        "entitlement changed",
        account_id=str(account_id),
        plan=after.plan_id,
        state=after.status.value,
        notice=after.notice.value if after.notice else None,
    )
