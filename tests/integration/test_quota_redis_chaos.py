"""Limits under fire: Redis is killed, frozen, emptied, paused and restored from an old copy while requests go on.

Four workers share one Postgres and one Redis, and ask for far more than the limits allow. A trigger writes down every
moment at which a limit is passed, so nothing depends on when a test looks.
"""

import asyncio
import contextlib
import itertools
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from gateway.clock import monotonic_s
from gateway.db.pool import Pool
from gateway.ids import uuid7
from gateway.ledger import store as ledger_store
from gateway.ledger.model import EndReason, Settlement, UsageSource
from gateway.quota.model import Engine, InsufficientQuota, RateLimited, ReserveRequest
from gateway.quota.redis_link import RedisLink
from gateway.quota.redis_quota import RedisQuota
from gateway.quota.redis_scripts import reserve_call, state_key
from gateway.quota.redis_server import RedisUnavailable
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from tests.fakes.toxic import Mode, ToxicProxy, running_proxy
from tests.plugins.cast import Person
from tests.plugins.redis import RedisProcess

pytestmark = pytest.mark.slow

WORKERS = 4
CLIENTS = 8
MONTH_LIMIT = 150_000
CONCURRENCY = 12
RESERVED = 100
IDLE_WITHIN_S = 5
READ_ANEW_WITHIN_S = 10
POLL_S = 0.01

WITNESS = f"""
CREATE SCHEMA witness;
CREATE TABLE witness.overshoot (what text, amount bigint);
CREATE FUNCTION witness.see_counter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF length(NEW.period) = 7 AND NEW.used_tokens + NEW.held_tokens > {MONTH_LIMIT} THEN
        INSERT INTO witness.overshoot VALUES ('month', NEW.used_tokens + NEW.held_tokens);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION witness.see_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.in_flight > {CONCURRENCY} THEN
        INSERT INTO witness.overshoot VALUES ('concurrency', NEW.in_flight);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE ON quota_counter FOR EACH ROW EXECUTE FUNCTION witness.see_counter();
CREATE TRIGGER see AFTER UPDATE ON quota_gate FOR EACH ROW EXECUTE FUNCTION witness.see_gate();
"""


class Fire:
    """Four workers, their clients, and what became of the requests."""

    def __init__(self, db: Pool, server: RedisProcess, person: Person) -> None:
        self.db = db
        self.server = server
        self.account_id = person.account_id
        self.admitted = 0
        self.used = 0
        self.always_use: int | None = None
        self.unexpected: list[BaseException] = []
        self._person = person
        self._random = random.Random(20261123)
        self._workers: list[RedisQuota] = []
        self._burning = True

    async def light(self) -> None:
        for _ in range(WORKERS):
            link = RedisLink(self.server.url, Limits())
            postgres = PostgresQuota(self.db, Limits(), clock=None)
            self._workers.append(RedisQuota(self.db, Limits(), link, postgres, clock=None))
            await link.open()

    async def burn(self, chaos: Callable[[], Awaitable[None]]) -> None:
        """Let clients ask without a pause while something happens to Redis."""
        clients = [
            asyncio.create_task(self._client(worker)) for worker in self._workers for _ in range(CLIENTS)
        ]
        try:
            await chaos()
        finally:
            self._burning = False
            await asyncio.gather(*clients)

    async def some_more(self, count: int) -> None:
        """Return when as many more requests were admitted, by whichever engine."""
        target = self.admitted + count
        await eventually(lambda: self.admitted >= target, 20, "requests are admitted")

    async def redis_decides(self) -> None:
        """Return when every worker uses Redis, and Postgres no longer decides anything."""
        await eventually(
            lambda: all(worker.engine is Engine.REDIS for worker in self._workers), 10, "Redis is used"
        )
        deadline_s = monotonic_s() + READ_ANEW_WITHIN_S
        while not await self._redis_decides_for(20):
            assert monotonic_s() < deadline_s, "Redis does not decide"

    async def _redis_decides_for(self, requests: int) -> bool:
        before = await self._fence()
        await self.some_more(requests)
        return await self._fence() == before

    async def _fence(self) -> int:
        fence: int = await self.db.fetchval(
            "SELECT fence FROM quota_gate WHERE account_id = $1", self.account_id
        )
        return fence

    async def nothing_is_held(self) -> None:
        """Return when idle means idle, in Postgres and in Redis."""
        await eventually(self._is_idle, IDLE_WITHIN_S, "nothing is held")
        assert await self.db.fetchval("SELECT sum(in_flight) FROM quota_gate") == 0
        assert await self.db.fetchval("SELECT sum(held_tokens) FROM quota_counter") == 0

    async def close(self) -> None:
        for worker in self._workers:
            await worker.close()

    def _is_idle(self) -> bool:
        fields = self.server.ask("HKEYS", state_key(self.account_id).decode())
        return "hold:" not in fields

    async def _client(self, worker: RedisQuota) -> None:
        while self._burning:
            request = request_of(self._person)
            try:
                reserved = await worker.reserve(request)
            except (InsufficientQuota, RateLimited):
                await asyncio.sleep(0.001)
                continue
            except Exception as error:  # whatever it is, Redis was not to cause it
                self.unexpected.append(error)
                continue
            self.admitted += 1
            await asyncio.sleep(self._random.random() / 100)
            used = self.always_use or self._random.choice([0, 0, 1, 2, reserved.reserved_tokens])
            await ledger_store.settle(self.db, [_settlement(request, used)])
            worker.settled(request, used)
            self.used += used


def request_of(person: Person) -> ReserveRequest:
    return ReserveRequest(
        request_id=uuid7(), account_id=person.account_id, key_id=person.key_id, model="nusantara-base",
        endpoint="/v1/responses", stream=False, plan_id="free", billable=False, currency="idr", input_tokens=10,
        output_tokens=RESERVED - 10, output_min=16, choices=1, deadline_s=600, month_limit=MONTH_LIMIT,
        concurrency=CONCURRENCY,
    )  # fmt: skip


def _settlement(request: ReserveRequest, used: int) -> Settlement:
    return Settlement(
        request_id=request.request_id, account_id=request.account_id, entry_id=uuid7(), released=used == 0,
        end_reason=EndReason.COMPLETED, upstream=None, duration_ms=1, output_text_tokens=used,
        usage_source=UsageSource.UPSTREAM,
    )  # fmt: skip


async def eventually(is_so: Callable[[], bool], within_s: float, what: str) -> None:
    deadline_s = monotonic_s() + within_s
    while not is_so():
        assert monotonic_s() < deadline_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(POLL_S)


@pytest.fixture
async def fire(seeded, sari, new_redis) -> AsyncIterator[Fire]:
    await seeded.execute(WITNESS)
    burning = Fire(seeded, new_redis("--save", "3600 1"), sari)
    await burning.light()
    yield burning
    await burning.close()
    overshoots = [dict(row) for row in await seeded.fetch("SELECT * FROM witness.overshoot")]
    await seeded.execute("DROP SCHEMA witness CASCADE")
    assert overshoots == []
    assert burning.unexpected == []


async def killed(fire: Fire) -> None:
    fire.server.kill()
    await fire.some_more(100)
    fire.server.start()


async def frozen(fire: Fire) -> None:
    fire.server.freeze()
    await fire.some_more(100)
    fire.server.thaw()


async def emptied(fire: Fire) -> None:
    fire.server.ask("FLUSHALL")
    await fire.some_more(20)


async def paused(fire: Fire) -> None:
    fire.server.ask("CLIENT", "PAUSE", "300", "ALL")
    await fire.some_more(50)


async def restored_from_an_old_copy(fire: Fire) -> None:
    fire.server.ask("SAVE")
    old = fire.server.dump.with_suffix(".old")
    shutil.copy(fire.server.dump, old)
    await fire.some_more(50)
    fire.server.kill()
    shutil.copy(old, fire.server.dump)
    await fire.some_more(20)
    fire.server.start()


FAULTS = [killed, frozen, emptied, paused, restored_from_an_old_copy]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_no_limit_is_passed_whatever_happens_to_redis(fire, fault):
    async def chaos() -> None:
        await fire.redis_decides()
        for _ in range(3):
            await fault(fire)
            await fire.redis_decides()

    await fire.burn(chaos)
    await fire.nothing_is_held()


async def test_no_limit_is_passed_when_one_worker_alone_has_lost_redis(fire):
    async def chaos() -> None:
        await fire.redis_decides()
        for worker in (fire._workers[0], fire._workers[1]) * 3:
            worker._link._go_down(ConnectionResetError())
            await fire.some_more(30)
        await fire.redis_decides()

    await fire.burn(chaos)
    await fire.nothing_is_held()


async def test_a_month_that_is_used_up_under_fire_is_used_to_the_token(fire):
    fire.always_use = RESERVED

    async def chaos() -> None:
        for fault in FAULTS:
            await fault(fire)
        await eventually(lambda: fire.used >= MONTH_LIMIT, 30, "the month is used up")

    await fire.burn(chaos)
    await fire.nothing_is_held()
    used = await fire.db.fetchval(
        "SELECT used_tokens FROM quota_counter WHERE subject_id = $1 AND length(period) = 7", fire.account_id
    )
    assert used == fire.used == MONTH_LIMIT


async def test_no_caller_ever_reads_the_answer_of_another_one(redis_server, sari):
    dice = random.Random(7)
    own, unavailable = 0, 0
    with running_proxy(("127.0.0.1", redis_server.port), seed=7) as proxy:
        link = RedisLink(f"redis://127.0.0.1:{proxy.port}/0", Limits())
        await link.open()
        for mode in itertools.islice(itertools.cycle((Mode.PASS, Mode.LATENCY, Mode.PASS, Mode.RESET)), 40):
            await proxy_mode(proxy, mode)
            asked = {}
            for _ in range(500):
                # An account that nobody knows is answered with the id of the request.
                request = msgspec.structs.replace(request_of(sari), account_id=uuid7())
                with contextlib.suppress(RedisUnavailable):
                    asked[request.request_id.hex] = asyncio.ensure_future(
                        link.submit(reserve_call(request, None))
                    )
                await asyncio.sleep(0)
                if asked and dice.random() < 0.2:
                    dice.choice(list(asked.values())).cancel()
            for request_id, future in asked.items():
                try:
                    assert await future == [b"rebuild", request_id.encode()]
                    own += 1
                except RedisUnavailable:
                    unavailable += 1
                except asyncio.CancelledError:
                    assert future.cancelled()
            await proxy_mode(proxy, Mode.PASS)
            await eventually(lambda: link.up, 5, "the link is mended")
        await link.close()
    assert own > 5_000
    assert unavailable > 0


async def proxy_mode(proxy: ToxicProxy, mode: Mode) -> None:
    await asyncio.to_thread(proxy.set, mode)
