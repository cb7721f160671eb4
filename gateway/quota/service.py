"""Admission: nothing is sent to a model before its tokens are reserved, atomically, against every limit."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from gateway.clock import Clock, Day, Month, day_of, month_end, month_of
from gateway.db.pool import Db, Pool, Row, is_poison
from gateway.errors import NusagateError
from gateway.quota import model, store
from gateway.quota.model import (
    InsufficientQuota,
    PriceMissing,
    QuotaState,
    QuotaView,
    RateLimited,
    Reservation,
    ReserveRequest,
    Standing,
)
from gateway.runtime.batcher import Batcher
from gateway.runtime.settings import Limits

ENGINE = "postgres"
MONTH_SCOPES = frozenset({"month", "key_month"})


class PostgresQuota:
    """Reserves against the limits in Postgres, in natural batches; ``clock`` is for tests only."""

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
        standing = _standing(request, row)
        if row["refused_by"] is not None:
            raise _refusal(request, row, standing)
        granted = row["granted_output"]
        return Reservation(
            request_id=request.request_id,
            granted_output_tokens=granted,
            reserved_tokens=request.input_tokens + request.choices * granted,
            admitted_at=row["admitted_at"],
            period=row["period"],
            book_id=row["book_id"],
            standing=standing,
        )

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


async def show(db: Db, account_id: UUID, month_limit: int | None, *, now: datetime | None) -> QuotaView:
    """Show the account's month as it stands in the database."""
    period = month_of(now or await store.database_time(db))
    counted = await store.counters(db, account_id, [account_id], [period])
    used, held = counted.get((account_id, period), (0, 0))
    return model.view(period, month_limit, used, held, ENGINE)


def _standing(request: ReserveRequest, row: Row) -> Standing:
    return Standing(
        month_limit=request.month_limit,
        month_used=row["month_used"],
        month_held=row["month_held"],
        month_resets_at=month_end(row["period"]),
        requests_limit=request.requests_per_minute,
        requests_remaining=row["requests_remaining"],
        requests_reset_us=row["requests_reset_us"],
        tokens_limit=request.tokens_per_minute,
        tokens_remaining=row["tokens_remaining"],
        tokens_reset_us=row["tokens_reset_us"],
    )


def _refusal(request: ReserveRequest, row: Row, standing: Standing) -> NusagateError:
    scope = row["refused_by"]
    if scope == "price":
        return PriceMissing(
            f"The model {request.model!r} is not offered in {request.currency.upper()}.", param="model"
        )
    if scope in MONTH_SCOPES:
        return InsufficientQuota(_quota_state(request, row, scope), standing)
    limits = {
        "tokens_per_day": request.day_limit,
        "tokens_per_minute": request.tokens_per_minute,
        "requests_per_minute": request.requests_per_minute,
        "concurrency": request.concurrency,
    }
    return RateLimited(scope, limits[scope] or 0, row["retry_after_us"], standing)


def _quota_state(request: ReserveRequest, row: Row, scope: str) -> QuotaState:
    limit = (request.key_limit if scope == "key_month" else request.month_limit) or 0
    used, held = row["scope_used"], row["scope_held"]
    return QuotaState(
        limit=limit,
        used=used,
        held=held,
        remaining=max(0, limit - used - held),
        required=request.input_tokens + request.choices * request.output_min,
        resets_at=model.scope_reset(scope, row["period"], day_of(row["admitted_at"])),
        period=row["period"],
        scope=scope,
    )
