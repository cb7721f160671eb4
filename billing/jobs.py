"""The background work of this room: carrying usage to Stripe, proving that it arrived, and checking the batches."""

from billing.account_jobs import account_jobs
from billing.reconcile import service as reconcile
from billing.reconcile.service import Reconciler
from billing.settings import StripeSettings
from billing.stripe.client import Stripe
from billing.sync import service as sync
from billing.sync import worker
from billing.sync.sender import Sender
from gateway.clock import Clock
from gateway.db.pool import Pool
from gateway.ledger.service import Verifier
from gateway.runtime.jobs import Job

SYNC_EVERY_S = 15
RECONCILE_EVERY_S = 900
VERIFY_EVERY_S = 600


class StripeWork:
    """The jobs that need Stripe, and the connection that they share; without settings there are none."""

    def __init__(self, db: Pool, clock: Clock, settings: StripeSettings) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings
        self._stripe = Stripe(settings)
        self._sender = Sender(db, clock, self._stripe, settings)

    def jobs(self) -> list[Job[Pool]]:
        """List the jobs that a worker runs for billing."""
        return [
            Job("stripe_sync", SYNC_EVERY_S, self._sync),
            Job("stripe_reconcile", RECONCILE_EVERY_S, self._reconcile),
            Job("stripe_verify", VERIFY_EVERY_S, Verifier(self._clock, sync.INVARIANTS).run),
            *account_jobs(self._db, self._clock, self._stripe, self._settings),
        ]

    async def close(self) -> None:
        """Close the connection."""
        await self._stripe.close()

    async def _sync(self, db: Pool) -> None:
        cutoff = sync.closed_before(self._clock.now(), self._settings.limits.stripe_settle_delay_s)
        await worker.run(db, self._clock, self._sender, cutoff=cutoff)
        await sync.measure(db, self._clock)

    async def _reconcile(self, db: Pool) -> None:
        reconciler = Reconciler(
            db, self._clock, self._stripe, max_reads=self._settings.limits.stripe_reads_per_run
        )
        await reconciler.run(everybody=False)
        await reconcile.measure(db)
