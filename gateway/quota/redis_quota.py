"""Limits decided in Redis and recorded in Postgres, which keeps the last word.

A request is decided by a script in Redis, and its intent is then recorded in Postgres by ``record_v1``, which decides
nothing new but refuses to write what must not be: that is where a limit is hard. What Postgres counts is right at any
moment, whoever decided, so the engine in Postgres can take over between any two requests.

**The fence.** ``quota_gate.fence`` is a number that moves on with every admission that Postgres decided itself, and every
time an account is read for Redis. The state in Redis carries the number that it was read under; an admission is recorded
only if that is still the number. So whatever was recorded under one fence was decided by one state, which began with
everything that had been recorded before, and saw everything since. A worker that has lost Redis needs to tell nobody: its
first admission moves the fence, and what all others decide from then on is answered ``stale`` until they have read the
account anew. An emptied Redis, an old copy, a former primary or a second Redis can at worst cause such answers. Should
a state with the right fence be wrong all the same, ``record_v1`` compares tokens and requests at once with the limits
again, under the lock of the account's gate.

**Reading an account anew.** Whoever finds it unknown takes a lock in Redis (in the same script), reads the account with
``fence_v1`` in one step under the gate's lock, and *sets* its state. The others wait for that; after ``PATIENCE_S`` the
engine in Postgres decides.

* A reservation that Redis made before and that is recorded after the reading is stale, and made again.
* An end that is committed before the reading is part of it; its settling finds no hold and changes nothing.
* An end that is committed after the reading finds its hold if the state is set by then. If not, it leaves word beside the
  lock, and the setting applies it. When the lock has run out meanwhile, the setting is refused.

**What may be lost.** A settling that never reaches Redis leaves a hold behind, which can only refuse. So no request is
refused, while anything is held, by a state older than ``VERIFY_AFTER_US``: it is read anew first. And no state lives longer
than ``STATE_LIFE_MS``.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from gateway.clock import Clock, monotonic_s
from gateway.db.pool import Pool, is_poison
from gateway.quota import store
from gateway.quota.model import AccountSnapshot, Admission, Engine, Recording, Reservation, ReserveRequest
from gateway.quota.outcome import price_missing, refusal, reservation
from gateway.quota.port import Quota, Scripts
from gateway.quota.redis_routes import RedisRoutes
from gateway.quota.redis_scripts import (
    Decided,
    Rebuild,
    ScriptCall,
    Wait,
    forget_call,
    install_call,
    read_answer,
    release_call,
    reserve_call,
    settle_call,
)
from gateway.quota.redis_server import RedisUnavailable, Reply
from gateway.quota.rules import unix_us_of
from gateway.quota.service import PostgresQuota
from gateway.runtime import metrics
from gateway.runtime.batcher import Batcher
from gateway.runtime.failpoints import failpoint
from gateway.runtime.logging import get_logger
from gateway.runtime.settings import Limits

log = get_logger("quota")

PATIENCE_S = 1.5
NAP_S = 0.005
MISSED_MAX = 20_000


class RedisQuota:
    """Reserves in Redis while it answers, and in Postgres while it does not; ``clock`` is for tests only."""

    def __init__(
        self, db: Pool, limits: Limits, link: Scripts, postgres: PostgresQuota, *, clock: Clock | None
    ) -> None:
        self._link = link
        self._postgres = postgres
        self._clock = clock
        self._missed: set[UUID] = set()
        self._recorder: Batcher[Admission, Recording] = Batcher(
            lambda batch: _record(db, batch),
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            is_poison=is_poison,
        )
        self._readings: dict[UUID, asyncio.Event] = {}
        self._fences: Batcher[UUID, AccountSnapshot] = Batcher(
            lambda batch: _fence(db, batch),
            max_batch=limits.batch_size,
            max_queue=limits.queue_size,
            is_poison=is_poison,
        )
        link.on_change.append(self._engine_changed)

    @property
    def engine(self) -> Engine:
        """The engine that decides at the moment."""
        return Engine.REDIS if self._link.up else Engine.POSTGRES

    async def reserve(self, request: ReserveRequest) -> Reservation:
        """Admit a request and hold its tokens, or raise what refuses it; a refusal holds nothing."""
        deadline_s = monotonic_s() + PATIENCE_S
        try:
            while monotonic_s() < deadline_s:
                reserved = await self._try(request)
                if reserved is not None:
                    return reserved
        except RedisUnavailable:
            self._miss(request.account_id)
        return await self._postgres.reserve(request)

    def settled(self, request: ReserveRequest, used_tokens: int) -> None:
        """Tell Redis of a committed end, without waiting; what it does not hear of, it reads from Postgres later."""
        call = settle_call(request.account_id, request.request_id, used_tokens, self._now_us())
        self._tell(call, request.account_id)
        failpoint("request.after_redis_settle")

    def fail_waiting(self, error: Exception) -> None:
        """Refuse those who wait for a database that is gone."""
        for batcher in (self._recorder, self._fences):
            batcher.fail_waiting(error)
        self._postgres.fail_waiting(error)

    async def close(self) -> None:
        """Wait for reservations under way, and let go of Redis."""
        await self._recorder.close()
        await self._fences.close()
        await self._postgres.close()
        await self._link.close()

    async def _try(self, request: ReserveRequest) -> Reservation | None:
        """Decide and record a request; ``None`` if what Redis knew of its account was not enough."""
        answer = await self._ask(request)
        if isinstance(answer, Decided):
            if answer.decision.refused_by is not None:
                raise refusal(request, answer.decision)
            failpoint("request.after_redis_hold")
            return await self._record(request, answer)
        if isinstance(answer, Rebuild):
            await self._read_anew(request.account_id, answer.nonce)
        elif (reading := self._readings.get(request.account_id)) is not None:
            await reading.wait()
        else:
            await asyncio.sleep(NAP_S)
        return None

    async def _ask(self, request: ReserveRequest) -> Decided | Rebuild | Wait:
        try:
            return read_answer(await self._link.submit(reserve_call(request, self._now_us())))
        except asyncio.CancelledError:
            # Nobody is left to hear the answer, which may be a hold.
            self._forget(request.account_id, None)
            raise

    async def _record(self, request: ReserveRequest, decided: Decided) -> Reservation | None:
        account_id, fence, decision = request.account_id, decided.fence, decided.decision
        admission = Admission(
            request=request,
            granted_output=decision.granted_output,
            admitted_at=decision.admitted_at,
            fence=fence,
        )
        try:
            recording = await self._recorder.submit(admission)
        except BaseException:
            # It may have been recorded or not; only Postgres knows.
            self._forget(account_id, None)
            raise
        if recording.outcome == "stale":
            metrics.quota_stale_total.inc()
            self._forget(account_id, fence)
            return None
        if recording.outcome in {"price", "ended"}:
            self._tell(release_call(account_id, request.request_id, fence), account_id)
        if recording.book_id is None:
            raise price_missing(request)
        if recording.outcome != "recorded":
            decision = msgspec.structs.replace(
                decision, granted_output=recording.granted_output, admitted_at=recording.admitted_at
            )
        return reservation(request, decision, recording.period, recording.book_id)

    async def _read_anew(self, account_id: UUID, nonce: bytes) -> None:
        """Read an account from Postgres and set its state in Redis; who waits for it here may then try again."""
        metrics.quota_rebuilds_total.inc()
        over = asyncio.Event()
        self._readings[account_id] = over
        try:
            snapshot = await self._fences.submit(account_id)
            await self._link.submit(install_call(snapshot, nonce, self._now_us()))
        finally:
            over.set()
            if self._readings.get(account_id) is over:
                del self._readings[account_id]

    def _forget(self, account_id: UUID, fence: int | None) -> None:
        self._tell(forget_call(account_id, fence), account_id)

    def _tell(self, call: ScriptCall, account_id: UUID) -> None:
        """Send what needs no answer; if it does not arrive, the account is forgotten when Redis is back."""

        def sent(future: "asyncio.Future[Reply]") -> None:
            if future.cancelled() or future.exception() is not None:
                self._miss(account_id)

        try:
            self._link.submit(call).add_done_callback(sent)
        except RedisUnavailable:
            self._miss(account_id)

    def _miss(self, account_id: UUID) -> None:
        """Remember an account of which this Redis does not know everything, to spare it a stale answer."""
        if len(self._missed) < MISSED_MAX:
            self._missed.add(account_id)

    def _engine_changed(self, up: bool, cause: str) -> None:  # noqa: FBT001 - the two states of a link
        log.warning("quota engine changed", engine=self.engine.value, reason=cause)
        metrics.quota_engine_switches_total.labels(self.engine.value).inc()
        metrics.quota_engine.labels(Engine.REDIS.value).set(int(up))
        metrics.quota_engine.labels(Engine.POSTGRES.value).set(int(not up))
        if up:
            missed, self._missed = self._missed, set()
            for account_id in missed:
                self._forget(account_id, None)

    def _now_us(self) -> int | None:
        return None if self._clock is None else unix_us_of(self._clock.now())


async def open_quota(db: Pool, limits: Limits, redis_url: str | None) -> Quota:
    """Open the limits: in Redis where there is one, in Postgres where there is none or while it does not answer."""
    postgres = PostgresQuota(db, limits, clock=None)
    if redis_url is None:
        metrics.quota_engine.labels(Engine.POSTGRES.value).set(1)
        return postgres
    link = RedisRoutes(redis_url, limits)
    quota = RedisQuota(db, limits, link, postgres, clock=None)
    await link.open()
    return quota


async def _record(db: Pool, batch: list[Admission]) -> Sequence[Recording]:
    recorded = await store.record(db, batch)
    return [recorded[admission.request.request_id] for admission in batch]


async def _fence(db: Pool, batch: list[UUID]) -> Sequence[AccountSnapshot]:
    snapshots = await store.fence(db, batch)
    return [snapshots[account_id] for account_id in batch]
