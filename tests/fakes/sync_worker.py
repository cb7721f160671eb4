"""One turn of the worker's billing jobs as a process of its own, at a time that the test chooses, so that it can die.

``python -m tests.fakes.sync_worker sync|reconcile|correct:FINDING DATABASE_URL STRIPE_URL UNIX_SECONDS SEED``; failpoints by environment.
"""

import asyncio
import random
import sys
from datetime import UTC, datetime
from uuid import UUID

from billing.corrections import service as corrections
from billing.reconcile.service import Reconciler
from billing.settings import StripeLimits, StripeSettings
from billing.stripe.client import Stripe
from billing.sync import service, worker
from billing.sync.sender import Sender
from gateway.audit.model import Source
from gateway.db.pool import open_pool
from gateway.runtime.settings import Limits


class StoppedClock:
    """A clock that stands at one moment."""

    def __init__(self, unix_s: int) -> None:
        self._moment = datetime.fromtimestamp(unix_s, UTC)

    def now(self) -> datetime:
        return self._moment


async def main(job: str, database_url: str, stripe_url: str, unix_s: int, seed: int) -> None:
    settings = StripeSettings(
        secret_key="sk_test_worker",
        webhook_secret="whsec_worker",
        api_base=stripe_url,
        limits=StripeLimits(stripe_timeout_s=1),
    )
    clock, stripe = StoppedClock(unix_s), Stripe(settings)
    db = await open_pool(database_url, Limits(database_timeout_s=60), application="sync worker")
    if job == "sync":
        sender = Sender(db, clock, stripe, settings, dice=random.Random(seed))
        await worker.run(db, clock, sender, cutoff=service.closed_before(clock.now(), 300))
    elif job.startswith("correct:"):
        order = corrections.Order(
            finding_id=UUID(job.partition(":")[2]), reason="counted twice", actor="dewi", source=Source.CLI
        )
        await corrections.correct(db, clock, stripe, order)
    else:
        await Reconciler(db, clock, stripe, max_reads=1_000_000).run(everybody=True)
    await stripe.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
