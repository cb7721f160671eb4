"""Admission: nothing is sent to a model before its tokens are reserved, atomically, against every limit."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from gateway.clock import Clock, Day, Month, month_of
from gateway.db.pool import Db, Pool, Row, is_poison
from gateway.quota import model, store
from gateway.quota.model import Engine, QuotaView, Reservation, ReserveRequest
from gateway.quota.outcome import refusal, reservation
from gateway.runtime.batcher import Batcher
from gateway.runtime.settings import Limits


class PostgresQuota:
    """Reserves against the limits in Postgres, in natural batches; ``clock`` is for tests only."""

    engine = Engine.POSTGRES

    def __init__(self, db: Pool, limits: Limits, *, clock: Clock | None) -> None:
        self._db = db
        self._clock = clock
        self._batcher = Batcher(
            self._flush,
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            is_poison=is_poison,
        )

    async def reserve(self, request: ReserveRequest) -> Reservation:
        """Admit a request and hold its tokens, or raise what refuses it; a refusal holds nothing."""
        row = await self._batcher.submit(request)
        decision = store.decision(row)
        if decision.refused_by is not None:
            raise refusal(request, decision)
        return reservation(request, decision, row["period"], row["book_id"])

    def settled(self, request: ReserveRequest, used_tokens: int) -> None:
        """Do nothing: the statement that settles a request has already moved these counters."""

    def fail_waiting(self, error: Exception) -> None:
        """Refuse those who wait for a database that is gone."""
        self._batcher.fail_waiting(error)

    async def close(self) -> None:
        """Wait for reservations under way."""
        await self._batcher.close()

    async def _flush(self, batch: list[ReserveRequest]) -> Sequence[Row]:
        now = self._clock.now() if self._clock else None
        rows = await store.reserve(self._db, batch, now)
        return [rows[request.request_id] for request in batch]


async def now(db: Db) -> datetime:
    """Read the clock that decides which month a request belongs to."""
    return await store.database_time(db)


async def counters(
    db: Db, account_id: UUID, subjects: Sequence[UUID], periods: Sequence[Month | Day]
) -> dict[tuple[UUID, str], tuple[int, int]]:
    """Read (used, held) tokens by subject and period; what is absent is zero."""
    return await store.counters(db, account_id, subjects, periods)


async def show(
    db: Db, account_id: UUID, month_limit: int | None, *, now: datetime | None, engine: Engine
) -> QuotaView:
    """Show the account's month as it stands in the database, and which engine decides at the moment."""
    period = month_of(now or await store.database_time(db))
    counted = await store.counters(db, account_id, [account_id], [period])
    used, held = counted.get((account_id, period), (0, 0))
    return model.view(period, month_limit, used, held, engine)
