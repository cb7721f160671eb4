"""Settling: the end of every request becomes one committed row before the client sees the end of its answer."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from gateway.clock import Clock, Month, month_of, month_start
from gateway.db.health import DatabaseHealth
from gateway.db.pool import UNAVAILABLE, DatabaseUnavailable, Db, Pool, is_poison
from gateway.errors import NusagateError
from gateway.ledger import store
from gateway.ledger.model import InvariantCheck, Settlement, Span, divide_time, span_of
from gateway.ledger.spool import Spool, SpoolFailed
from gateway.runtime import metrics
from gateway.runtime.batcher import Batcher
from gateway.runtime.settings import Limits


class SettlementLost(NusagateError):
    """The request could not be recorded, so its answer was cut short."""

    code = "internal_error"


class SweptBefore(NusagateError):
    """The request was ended with an estimate before its settlement came; the gateway was thought dead."""

    code = "internal_error"


class Ledger:
    """Settles requests in natural batches, and on disk where Postgres is away.

    Without ``health`` and ``spool``, as in commands and tests, a settlement that fails is the caller's.
    """

    def __init__(
        self, db: Pool, limits: Limits, *, health: DatabaseHealth | None, spool: Spool | None
    ) -> None:
        self._db = db
        self._health = health
        self._spool = spool
        if health is not None:
            health.on_down.append(lambda: self._batcher.fail_waiting(DatabaseUnavailable()))
        self._batcher = Batcher(
            self._flush,
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            is_poison=is_poison,
        )

    async def settle(self, settlement: Settlement) -> None:
        """Record the end of a request, once: repeating it changes nothing.

        It is committed when this returns, or on disk and committed as soon as Postgres answers. Raises ``SettlementLost`` when the request has an end without an entry, which only a bug or a
        sweep of a request that was thought dead can bring about.
        """
        try:
            state = await self._commit(settlement)
        except UNAVAILABLE:
            if self._spool is None:
                raise
            await self._spool.append(settlement)
            return
        if state != ("released" if settlement.released else "settled"):
            raise SettlementLost

    async def release_if_held(self, settlement: Settlement) -> None:
        """Free a reservation that may or may not have been made; where it was not, this changes nothing."""
        with contextlib.suppress(SettlementLost, SpoolFailed):
            await self.settle(settlement)

    @property
    def refuses(self) -> bool:
        """Whether a request that was admitted now could not be recorded: Postgres is away, or the spool is broken."""
        return (self._health is not None and self._health.down) or (
            self._spool is not None and self._spool.broken
        )

    async def replay(self) -> int:
        """Settle what waits in the spool; return how many settlements there were."""
        if self._spool is None or (self._health is not None and self._health.down):
            return 0
        if self._spool.broken:
            self._spool.probe()
        metrics.spool_files.set(self._spool.waiting())
        return await self._spool.replay(self._settle_again)

    async def close(self) -> None:
        """Wait for settlements under way."""
        await self._batcher.close()
        if self._spool is not None:
            await self._spool.close()

    async def _settle_again(self, batch: Sequence[Settlement]) -> None:
        """Settle what was spooled; what a sweeper has ended with an estimate meanwhile is set aside, not thrown away."""
        assert self._spool is not None
        closed = await store.settle(self._db, batch)
        late = {one.request_id: one for one in batch if one.request_id not in closed}
        for request_id in await store.swept(self._db, list(late)) if late else ():
            await self._spool.set_aside(late[request_id], SweptBefore())

    async def _commit(self, settlement: Settlement) -> str:
        if self._health is not None and self._health.down:
            raise DatabaseUnavailable
        return await self._batcher.submit(settlement)

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


class Check(msgspec.Struct, frozen=True):
    """One statement of a verification: an invariant and the span in which it is checked, or all of it."""

    invariant: str
    span: Span | None

    def __str__(self) -> str:
        """Name it for whoever waits for it."""
        return self.invariant if self.span is None else f"{self.span}: {self.invariant}"


class Invariants(msgspec.Struct, frozen=True, kw_only=True):
    """What a room has to prove: the names of its checks and their queries, and how one counts the rows that break it."""

    by_month: Mapping[str, str]
    in_all: Mapping[str, str]
    count: Callable[[Db, str, Span | None], Awaitable[int]]

    @property
    def queries(self) -> dict[str, str]:
        """Return all checks."""
        return {**self.by_month, **self.in_all}


LEDGER = Invariants(by_month=store.MONTH_CHECKS, in_all=store.WHOLE_CHECKS, count=store.count_violations)


class Verifier:
    """The checks as a worker runs them: what is old by turns, so that no run reads the whole ledger.

    A violation stays published until its own month has been read again.
    """

    def __init__(self, clock: Clock, invariants: Invariants = LEDGER) -> None:
        self._clock = clock
        self._invariants = invariants
        self._turn = 0
        self._found: dict[Check, int] = {}

    async def run(self, db: Db) -> None:
        """Check this month, the last one, one of the others, and what does not grow; publish each as a metric."""
        recent = _recent(self._clock.now())
        spans = divide_time([*await store.months(db), *recent])
        newest = [span_of(month) for month in recent]
        others = [span for span in reversed(spans) if span not in newest]
        asked = _checks(self._invariants, [*newest, others[self._turn % len(others)]], whole=True)
        self._turn += 1
        self._found = {check: rows for check, rows in self._found.items() if check.span in spans}
        for check in asked:
            self._found[check] = await _count(db, self._invariants, check)
        for invariant, violations in _sums(self._found).items():
            metrics.ledger_violations.labels(invariant).set(violations)


async def verify(
    db: Db,
    *,
    month: Month | None = None,
    begin: Callable[[str], object] = lambda _: None,
    invariants: Invariants = LEDGER,
) -> list[InvariantCheck]:
    """Check every invariant that the database can show, in all of time or in one month only.

    ``begin`` is told of each statement before it runs.
    """
    spans = divide_time(await store.months(db)) if month is None else [span_of(month)]
    found = {}
    asked = _checks(invariants, spans, whole=month is None)
    for number, check in enumerate(asked, start=1):
        begin(f"{number} of {len(asked)}, {check}")
        found[check] = await _count(db, invariants, check)
    return [
        InvariantCheck(
            invariant=invariant,
            ok=violations == 0,
            violations=violations,
            detail=invariants.queries[invariant].removeprefix("verify_"),
        )
        for invariant, violations in _sums(found).items()
    ]


def _checks(invariants: Invariants, spans: Sequence[Span], *, whole: bool) -> list[Check]:
    in_all = [Check(invariant, None) for invariant in invariants.in_all] if whole else []
    return [*in_all, *(Check(invariant, span) for span in spans for invariant in invariants.by_month)]


async def _count(db: Db, invariants: Invariants, check: Check) -> int:
    return await invariants.count(db, invariants.queries[check.invariant], check.span)


def _sums(found: Mapping[Check, int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for check, violations in found.items():
        sums[check.invariant] = sums.get(check.invariant, 0) + violations
    return sums


def _recent(now: datetime) -> tuple[Month, Month]:
    month = month_of(now)
    return month, month_of(month_start(month) - timedelta(days=1))
