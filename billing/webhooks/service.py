"""Working off what Stripe told us: every object that events speak of is fetched once, however many events there are.

The reducers take nothing from an event but which object it is about. So it does not matter whether events come twice,
late, in another order, or not all; and a run that dies half-way is repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from billing.credit.topups import refresh_top_up
from billing.customers import service as customers
from billing.invoices.refreshing import refresh_invoice
from billing.settings import StripeSettings
from billing.stripe.client import Stripe
from billing.stripe.errors import StripeError
from billing.subscriptions.refreshing import refresh_dispute, refresh_subscription
from billing.subscriptions.service import refresh_session
from billing.webhooks import store
from billing.webhooks.drafts import compare_draft
from billing.webhooks.meter_errors import take_in_meter_errors
from billing.webhooks.model import ATTEMPTS_MAX, Subject, SubjectKind, WaitingEvent, retry_after_s
from gateway.clock import Clock
from gateway.db.pool import Db, Pool
from gateway.errors import NusagateError
from gateway.runtime import metrics
from gateway.runtime.logging import describe, get_logger

log = get_logger("webhooks")

PAGE = 50
"""What somebody bought waits for no more than this, however many invoices the first of a month brings."""
AT_ONCE = 4
"""Objects; a Stripe sandbox takes 25 requests a second of all kinds."""
LEASE = timedelta(minutes=5)
"""Events that somebody took and never finished are taken again after this."""
KEPT = timedelta(days=35)
CLEAR_PAGE = 1_000

DONE = "done"
NOT_OURS = "not_ours"

Reducer = Callable[[str], Awaitable[object]]


class Processor:
    """Works off events; one reducer for each kind of subject, which returns ``None`` for what is nobody's of ours."""

    def __init__(self, db: Pool, clock: Clock, stripe: Stripe, settings: StripeSettings) -> None:
        self._db = db
        self._clock = clock
        self._stripe = stripe
        self._grace = timedelta(days=settings.limits.payment_grace_days)
        self._reducers: Mapping[SubjectKind, Reducer] = {
            SubjectKind.CHECKOUT: self._checkout,
            SubjectKind.SUBSCRIPTION: self._subscription,
            SubjectKind.INVOICE: self._invoice,
            SubjectKind.CUSTOMER: self._customer,
            SubjectKind.DISPUTE: self._dispute,
            SubjectKind.METER_ERROR: self._meter_error,
        }

    async def run(self) -> int:
        """Work off everything that is due; return how many events were taken."""
        taken = 0
        while page := await self._claim():
            taken += len(page)
            room = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for subject, events in _by_subject(page).items():
                    group.create_task(self._reduce(subject, events, room))
        metrics.webhooks_waiting.set(await store.count_waiting(self._db))
        return taken

    async def _claim(self) -> list[WaitingEvent]:
        now = self._clock.now()
        return await store.claim(self._db, now=now, lease_until=now + LEASE, limit=PAGE)

    async def _reduce(
        self, subject: Subject, events: Sequence[WaitingEvent], room: asyncio.Semaphore
    ) -> None:
        """Bring one object up to date, and with it all its events to an end."""
        async with room:
            try:
                found = await self._reducers[subject.kind](subject.id)
            except Exception as error:  # the other subjects must not wait for this one
                await self._put_off(events, error)
                return
            await store.finish(self._db, events, DONE if found is not None else NOT_OURS, self._clock.now())

    async def _put_off(self, events: Sequence[WaitingEvent], error: Exception) -> None:
        """Try again later: Stripe may be busy or down, and if it is a bug of ours, nothing must be lost until it is gone."""
        outcome = error.code if isinstance(error, NusagateError) else type(error).__name__
        if not isinstance(error, StripeError):
            log.error("webhook failed", types=sorted({event.type for event in events}), **describe(error))
        now = self._clock.now()
        for event in events:
            if event.attempts >= ATTEMPTS_MAX:
                metrics.webhooks_failed_total.inc()
                await store.give_up(self._db, event, outcome=outcome, now=now)
            else:
                until = now + timedelta(seconds=retry_after_s(event.attempts))
                await store.postpone(self._db, event, until=until, outcome=outcome)

    async def _checkout(self, session_id: str) -> object:
        """Take in what was bought: a plan, or credit."""
        about = (self._db, self._clock, self._stripe, session_id, self._grace)
        return await refresh_session(*about) or await refresh_top_up(*about)

    async def _subscription(self, subscription_id: str) -> object:
        return await refresh_subscription(self._db, self._clock, self._stripe, subscription_id, self._grace)

    async def _invoice(self, invoice_id: str) -> object:
        """Keep the invoice, and look at its subscription: whether it is paid decides about the account."""
        invoice = await refresh_invoice(self._db, self._stripe, invoice_id)
        if invoice is not None:
            await compare_draft(self._db, self._clock, invoice)
            if invoice.subscription_id is not None:
                await self._subscription(invoice.subscription_id)
        return invoice

    async def _customer(self, customer_id: str) -> object:
        """Nothing of a customer is kept but that it exists."""
        account_id = await customers.account_of(self._db, customer_id)
        if account_id is not None and not await customers.exists(self._stripe, customer_id):
            await customers.park(self._db, self._clock, customer_id, reason=customers.DELETED)
        return account_id

    async def _dispute(self, dispute_id: str) -> object:
        return await refresh_dispute(self._db, self._clock, self._stripe, dispute_id, self._grace)

    async def _meter_error(self, event_id: str) -> object:
        return await take_in_meter_errors(self._db, self._clock, self._stripe, event_id)


async def clear(db: Db, clock: Clock) -> None:
    """Forget events of long ago, page by page."""
    while await store.clear(db, before=clock.now() - KEPT, limit=CLEAR_PAGE) == CLEAR_PAGE:
        pass


def _by_subject(events: Sequence[WaitingEvent]) -> dict[Subject, list[WaitingEvent]]:
    grouped: dict[Subject, list[WaitingEvent]] = {}
    for event in events:
        grouped.setdefault(event.subject, []).append(event)
    return grouped
