"""The background work of this room: sweeping, proving, and clearing what has had its time."""

from collections.abc import Awaitable, Callable

from gateway.clock import SystemClock
from gateway.db.pool import Pool
from gateway.http import store as idempotency_store
from gateway.ledger import store as ledger_store
from gateway.ledger.service import Verifier
from gateway.metering.sweeper import Sweeper
from gateway.refusals import store as refusal_store
from gateway.responses import store as responses_store
from gateway.rollup.service import close_days
from gateway.runtime.jobs import Job
from gateway.runtime.settings import Limits

PARTITION_MONTHS = 3
PAGE = 1_000

SWEEP_EVERY_S = 1
VERIFY_EVERY_S = 600
CLOSE_DAYS_EVERY_S = 60
HOUR_S = 3_600


def gateway_jobs(limits: Limits) -> list[Job[Pool]]:
    """List the jobs that a worker runs for the gateway."""
    return [
        Job("sweep", SWEEP_EVERY_S, Sweeper(limits).sweep),
        Job("verify", VERIFY_EVERY_S, Verifier(SystemClock()).run),
        Job("close_days", CLOSE_DAYS_EVERY_S, close_days),
        Job("partitions", HOUR_S, lambda db: ledger_store.ensure_partitions(db, PARTITION_MONTHS)),
        Job("responses", HOUR_S, lambda db: _clear(lambda: responses_store.delete_expired(db, PAGE))),
        Job(
            "refusals",
            HOUR_S,
            lambda db: _clear(
                lambda: refusal_store.delete_old(db, older_than_days=limits.refusal_days, page=PAGE)
            ),
        ),
        Job("idempotency", HOUR_S, lambda db: _clear(lambda: idempotency_store.delete_expired(db, PAGE))),
        Job(
            "intents",
            HOUR_S,
            lambda db: _clear(
                lambda: ledger_store.delete_closed_intents(
                    db, older_than_days=limits.closed_intent_days, page=PAGE
                )
            ),
        ),
    ]


async def _clear(delete_page: Callable[[], Awaitable[int]]) -> None:
    """Delete page by page, so that no statement holds many rows for long."""
    while await delete_page() == PAGE:
        pass
