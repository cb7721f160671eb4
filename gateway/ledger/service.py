"""Settling: the end of every request becomes one committed row before the client sees the end of its answer."""

from collections.abc import Sequence

from gateway.db.pool import Db, Pool, is_poison
from gateway.errors import NusagateError
from gateway.ledger import store
from gateway.ledger.model import InvariantCheck, Settlement
from gateway.runtime import metrics
from gateway.runtime.batcher import Batcher
from gateway.runtime.settings import Limits


class SettlementLost(NusagateError):
    """The request could not be recorded, so its answer was cut short."""

    code = "internal_error"


class Ledger:
    """Settles requests in natural batches."""

    def __init__(self, db: Pool, limits: Limits) -> None:
        self._db = db
        self._batcher = Batcher(
            self._flush,
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            max_flights=1,
            is_poison=is_poison,
        )

    async def settle(self, settlement: Settlement) -> None:
        """Commit the end of a request, once: repeating it changes nothing.

        Raises ``SettlementLost`` when the request has an end without an entry, which only a bug or a
        sweep of a request that was thought dead can bring about.
        """
        state = await self._batcher.submit(settlement)
        if state != ("released" if settlement.released else "settled"):
            raise SettlementLost

    async def close(self) -> None:
        """Wait for settlements under way."""
        await self._batcher.close()

    async def _flush(self, batch: list[Settlement]) -> Sequence[str]:
        try:
            closed = await store.settle(self._db, batch)
        except Exception:
            metrics.settle_failures_total.inc(len(batch))
            raise
        repeated = [settlement.request_id for settlement in batch if settlement.request_id not in closed]
        states = await store.intent_states(self._db, repeated) if repeated else {}
        return [
            ("released" if settlement.released else "settled")
            if settlement.request_id in closed
            else states.get(settlement.request_id, "unknown")
            for settlement in batch
        ]


async def verify(db: Db) -> list[InvariantCheck]:
    """Check every invariant that the database can show, and publish each as a metric."""
    checks = []
    for invariant, query in store.STARRED_CHECKS.items():
        violations = await store.count_violations(db, query)
        metrics.ledger_violations.labels(invariant).set(violations)
        checks.append(
            InvariantCheck(
                invariant=invariant,
                ok=violations == 0,
                violations=violations,
                detail=query.removeprefix("verify_"),
            )
        )
    return checks
