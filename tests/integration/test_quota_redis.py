"""Limits in Redis, recorded in Postgres: each way in which the two could disagree, and what comes of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.clock import month_of
from gateway.db.pool import DatabaseUnavailable, Pool
from gateway.ids import uuid7
from gateway.ledger import store as ledger_store
from gateway.ledger.model import EndReason, Settlement, UsageSource
from gateway.quota import store
from gateway.quota.gcra import gcra
from gateway.quota.model import (
    Admission,
    Engine,
    InsufficientQuota,
    PriceMissing,
    RateLimited,
    Reservation,
    ReserveRequest,
)
from gateway.quota.redis_link import RedisLink
from gateway.quota.redis_quota import RedisQuota, open_quota
from gateway.quota.redis_scripts import (
    Rebuild,
    ScriptCall,
    account_keys,
    install_call,
    read_answer,
    reserve_call,
    settle_call,
    state_key,
)
from gateway.quota.redis_server import engine_in_force, examine
from gateway.quota.rules import unix_us_of
from gateway.quota.service import PostgresQuota
from gateway.runtime import metrics
from gateway.runtime.settings import Limits
from tests.fakes.processes import free_port
from tests.plugins.cast import Person
from tests.plugins.redis import RedisProcess

PATIENT = msgspec.structs.replace(Limits(), redis_timeout_ms=5_000)


def ask(person: Person, **wanted) -> ReserveRequest:
    given = {
        "request_id": uuid7(), "account_id": person.account_id, "key_id": person.key_id, "model": "nusantara-base",
        "endpoint": "/v1/responses", "stream": False, "plan_id": "free", "billable": False, "currency": "idr",
        "input_tokens": 10, "output_tokens": 90, "output_min": 16, "choices": 1, "deadline_s": 600,
    }  # fmt: skip
    return ReserveRequest(**{**given, **wanted})


class Worker:
    """One gateway process's way to the limits."""

    def __init__(self, db: Pool, link: RedisLink, quota: RedisQuota) -> None:
        self.db = db
        self.link = link
        self.quota = quota

    async def reserve(self, request: ReserveRequest) -> Reservation:
        return await self.quota.reserve(request)

    async def commit(self, request: ReserveRequest, used: int) -> None:
        """Settle in Postgres only."""
        await ledger_store.settle(self.db, [settlement(request, used)])

    async def settle(self, request: ReserveRequest, used: int) -> None:
        await self.commit(request, used)
        self.quota.settled(request, used)
        await self.link._batcher.close()

    async def call(self, call: ScriptCall):
        return await self.link.submit(call)

    async def counted(self, person: Person) -> tuple[int, int]:
        """What the account has used and holds this month, in Postgres."""
        rows = await self.db.fetch(
            "SELECT used_tokens, held_tokens FROM quota_counter WHERE subject_id = $1 AND length(period) = 7",
            person.account_id,
        )
        return (rows[0]["used_tokens"], rows[0]["held_tokens"]) if rows else (0, 0)


def settlement(request: ReserveRequest, used: int) -> Settlement:
    return Settlement(
        request_id=request.request_id, account_id=request.account_id, entry_id=uuid7(), released=used == 0,
        end_reason=EndReason.COMPLETED, upstream=None, duration_ms=1, output_text_tokens=used,
        usage_source=UsageSource.UPSTREAM,
    )  # fmt: skip


def state_of(server: RedisProcess, person: Person) -> dict[str, str]:
    """The account's state in Redis, by field."""
    lines = server.ask("HGETALL", state_key(person.account_id).decode()).splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))


def holds_of(server: RedisProcess, person: Person) -> list[str]:
    return [name for name in state_of(server, person) if name.startswith("hold:")]


@pytest.fixture
async def new_worker(seeded, redis_url) -> AsyncIterator[Callable[..., object]]:
    """Makes workers on the same Postgres and the same Redis."""
    made: list[RedisQuota] = []

    async def make(*, clock=None, limits: Limits = PATIENT, url: str = redis_url) -> Worker:
        link = RedisLink(url, limits)
        quota = RedisQuota(seeded, limits, link, PostgresQuota(seeded, limits, clock=clock), clock=clock)
        await link.open()
        made.append(quota)
        return Worker(seeded, link, quota)

    yield make
    for quota in made:
        await quota.close()


@pytest.fixture
async def worker(new_worker) -> Worker:
    return await new_worker()


async def test_what_redis_admits_is_in_postgres_as_if_it_had_decided(worker, sari, redis_server):
    request = ask(sari, month_limit=1_000)
    admitted = await worker.reserve(request)
    assert worker.quota.engine is Engine.REDIS
    assert admitted.reserved_tokens == 100
    assert admitted.period == month_of(admitted.admitted_at)
    assert await worker.counted(sari) == (0, 100)
    intent = await worker.db.fetchrow(
        "SELECT * FROM request_intent WHERE request_id = $1", request.request_id
    )
    assert intent["admitted_at"] == admitted.admitted_at
    assert intent["state"] == "open"
    assert len(holds_of(redis_server, sari)) == 1
    await worker.settle(request, 42)
    assert await worker.counted(sari) == (42, 0)
    assert holds_of(redis_server, sari) == []
    assert state_of(redis_server, sari)[f"used:{admitted.period}"] == "42"


async def test_the_limit_is_hard_and_refusals_cost_no_query(worker, sari):
    for _ in range(3):
        await worker.reserve(ask(sari, month_limit=300))
    before = await worker.db.fetchval("SELECT fence FROM quota_gate WHERE account_id = $1", sari.account_id)
    worker.quota._recorder.fail_waiting(AssertionError())
    with pytest.raises(InsufficientQuota) as refused:
        await worker.reserve(ask(sari, month_limit=300))
    assert refused.value.quota.remaining == 0
    assert refused.value.quota.held == 300
    after = await worker.db.fetchval("SELECT fence FROM quota_gate WHERE account_id = $1", sari.account_id)
    assert after == before


async def test_a_worker_that_lost_redis_is_not_overlooked_by_one_that_has_it(new_worker, sari):
    healthy, cut_off = await new_worker(), await new_worker()
    await healthy.reserve(ask(sari, month_limit=300))
    cut_off.link.up = False
    await cut_off.reserve(ask(sari, month_limit=300))
    await cut_off.reserve(ask(sari, month_limit=300))
    stale = metrics.quota_stale_total._value.get()
    with pytest.raises(InsufficientQuota):
        await healthy.reserve(ask(sari, month_limit=300))
    assert metrics.quota_stale_total._value.get() == stale + 1
    assert await healthy.counted(sari) == (0, 300)


async def test_minute_limits_hold_across_engines(new_worker, sari, clock):
    healthy, cut_off = await new_worker(clock=clock), await new_worker(clock=clock)
    cut_off.link.up = False
    admitted = 0
    for turn in range(12):
        with contextlib.suppress(RateLimited):
            await (healthy, cut_off)[turn % 2].reserve(ask(sari, requests_per_minute=5))
            admitted += 1
    assert admitted == 5


async def test_concurrent_requests_of_many_workers_never_pass_a_limit(new_worker, sari):
    workers = [await new_worker() for _ in range(4)]
    asked = [ask(sari, month_limit=10_000) for _ in range(400)]
    outcomes = await asyncio.gather(
        *(workers[number % 4].reserve(request) for number, request in enumerate(asked)),
        return_exceptions=True,
    )
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Reservation)]
    assert {type(outcome) for outcome in outcomes} == {Reservation, InsufficientQuota}
    assert sum(reservation.reserved_tokens for reservation in admitted) == 10_000
    assert await workers[0].counted(sari) == (0, 10_000)


async def test_a_batch_moves_the_minute_buckets_as_its_requests_one_by_one_would(worker, sari, clock):
    request = ask(sari, requests_per_minute=7, tokens_per_minute=100_003)
    [snapshot] = (await store.fence(worker.db, [sari.account_id])).values()
    moments = [clock.moment + timedelta(seconds=seconds) for seconds in (0, 1, 2, 30, 31)]
    batch = [
        Admission(
            request=msgspec.structs.replace(request, request_id=uuid7()),
            granted_output=90,
            admitted_at=moment,
            fence=snapshot.fence,
        )
        for moment in moments
    ]
    recorded = await store.record(worker.db, [batch[3], batch[0], batch[4], batch[1], batch[2]])
    assert {recording.outcome for recording in recorded.values()} == {"recorded"}
    requests_us = tokens_us = 0
    for moment in moments:
        now_us = unix_us_of(moment)
        requests_us = gcra(requests_us, now_us, cost=1, limit_per_minute=7, burst=7).tat_us
        tokens_us = gcra(tokens_us, now_us, cost=100, limit_per_minute=100_003, burst=100_003).tat_us
    gate = await worker.db.fetchrow("SELECT * FROM quota_gate WHERE account_id = $1", sari.account_id)
    assert (gate["requests_tat_us"], gate["tokens_tat_us"], gate["in_flight"]) == (requests_us, tokens_us, 5)


@pytest.mark.parametrize(
    "limits", [{"month_limit": 250}, {"day_limit": 250}, {"key_limit": 250}, {"concurrency": 2}], ids=str
)
async def test_postgres_writes_nothing_beyond_a_limit_whatever_redis_says(worker, sari, clock, limits):
    [snapshot] = (await store.fence(worker.db, [sari.account_id])).values()
    lies = [
        Admission(
            request=ask(sari, **limits), granted_output=90, admitted_at=clock.moment, fence=snapshot.fence
        )
        for _ in range(3)
    ]
    outcomes = await store.record(worker.db, lies)
    assert {recording.outcome for recording in outcomes.values()} == {"stale"}
    assert await worker.counted(sari) == (0, 0)
    for number, lie in enumerate(lies):
        [recording] = (await store.record(worker.db, [lie])).values()
        assert recording.outcome == ("recorded" if number < 2 else "stale")


async def test_an_older_fence_records_nothing_and_harms_no_other_account(worker, sari, budi, clock):
    snapshots = await store.fence(worker.db, [sari.account_id, budi.account_id])
    of_sari, of_budi = (
        Admission(
            request=ask(person),
            granted_output=90,
            admitted_at=clock.moment,
            fence=snapshots[person.account_id].fence,
        )
        for person in (sari, budi)
    )
    await store.fence(worker.db, [sari.account_id])
    recorded = await store.record(worker.db, [of_sari, of_budi])
    assert recorded[of_sari.request.request_id].outcome == "stale"
    assert recorded[of_budi.request.request_id].outcome == "recorded"


async def test_an_emptied_redis_is_read_anew_and_loses_nothing(worker, sari, redis_server):
    held, used = ask(sari, month_limit=300), ask(sari, month_limit=300)
    await worker.reserve(held)
    await worker.reserve(used)
    await worker.settle(used, 100)
    redis_server.ask("FLUSHALL")
    await worker.reserve(ask(sari, month_limit=300))
    with pytest.raises(InsufficientQuota):
        await worker.reserve(ask(sari, month_limit=300))
    assert len(holds_of(redis_server, sari)) == 2
    await worker.settle(held, 1)
    assert await worker.counted(sari) == (101, 100)


async def begin_to_read(worker: Worker, person: Person) -> bytes:
    """Take the lock of an account that Redis does not know; return what proves it."""
    answer = read_answer(await worker.call(reserve_call(ask(person), None)))
    assert isinstance(answer, Rebuild)
    return answer.nonce


async def test_an_end_between_the_reading_and_the_setting_is_counted_once(worker, sari, redis_server):
    request = ask(sari)
    await worker.reserve(request)
    redis_server.ask("DEL", state_key(sari.account_id).decode())
    nonce = await begin_to_read(worker, sari)
    [snapshot] = (await store.fence(worker.db, [sari.account_id])).values()
    await worker.settle(request, 42)
    assert await worker.call(install_call(snapshot, nonce, None)) == 1
    state = state_of(redis_server, sari)
    assert holds_of(redis_server, sari) == []
    assert state["in_flight"] == "0"
    month = month_of((await worker.reserve(ask(sari))).admitted_at)
    assert state[f"used:{month}"] == "42"
    assert state[f"held:{month}"] == "0"
    assert await worker.call(settle_call(sari.account_id, request.request_id, 42, None)) == 0
    assert state_of(redis_server, sari)[f"used:{month}"] == "42"


async def test_an_end_before_the_reading_is_not_counted_again(worker, sari, redis_server):
    request = ask(sari)
    admitted = await worker.reserve(request)
    redis_server.ask("DEL", state_key(sari.account_id).decode())
    await worker.commit(request, 42)
    await worker.reserve(ask(sari))
    worker.quota.settled(request, 42)
    await worker.link._batcher.close()
    assert state_of(redis_server, sari)[f"used:{admitted.period}"] == "42"


async def test_who_lost_the_lock_sets_nothing(worker, sari, redis_server):
    nonce = await begin_to_read(worker, sari)
    [snapshot] = (await store.fence(worker.db, [sari.account_id])).values()
    redis_server.ask("DEL", account_keys(sari.account_id)[1].decode())
    assert await worker.call(install_call(snapshot, nonce, None)) == 0
    assert state_of(redis_server, sari) == {}


async def test_an_older_reading_does_not_replace_a_newer_one(worker, sari, redis_server):
    nonce = await begin_to_read(worker, sari)
    [older] = (await store.fence(worker.db, [sari.account_id])).values()
    [newer] = (await store.fence(worker.db, [sari.account_id])).values()
    assert await worker.call(install_call(newer, nonce, None)) == 1
    redis_server.ask("SET", account_keys(sari.account_id)[1].decode(), nonce.decode())
    assert await worker.call(install_call(older, nonce, None)) == 0
    assert state_of(redis_server, sari)["fence"] == str(newer.fence)


async def test_many_requests_read_an_unknown_account_once(worker, sari):
    before = metrics.quota_rebuilds_total._value.get()
    await asyncio.gather(*(worker.reserve(ask(sari)) for _ in range(50)))
    assert metrics.quota_rebuilds_total._value.get() == before + 1


async def test_a_hold_whose_end_redis_never_heard_of_refuses_nobody(new_worker, sari, clock):
    worker = await new_worker(clock=clock)
    lost = ask(sari, concurrency=1)
    await worker.reserve(lost)
    await worker.commit(lost, 42)
    with pytest.raises(RateLimited):
        await worker.reserve(ask(sari, concurrency=1))
    clock.move(timedelta(seconds=4))
    await worker.reserve(ask(sari, concurrency=1))


async def test_a_model_without_a_price_leaves_no_hold_and_no_trace_in_the_limits(worker, sari, redis_server):
    await worker.reserve(ask(sari, requests_per_minute=2))
    before = state_of(redis_server, sari)
    with pytest.raises(PriceMissing):
        await worker.reserve(ask(sari, model="unheard-of", requests_per_minute=2))
    await worker.link._batcher.close()
    assert state_of(redis_server, sari) == before
    assert await worker.counted(sari) == (0, 100)
    await worker.reserve(ask(sari, requests_per_minute=2))


async def test_a_request_that_has_ended_is_not_admitted_again(worker, sari, redis_server):
    request = ask(sari)
    first = await worker.reserve(request)
    await worker.settle(request, 42)
    again = await worker.reserve(request)
    await worker.link._batcher.close()
    assert again.admitted_at == first.admitted_at
    assert holds_of(redis_server, sari) == []
    assert await worker.counted(sari) == (42, 0)


async def test_what_postgres_did_not_confirm_is_read_from_it_again(worker, sari, redis_server, monkeypatch):
    await worker.reserve(ask(sari))

    async def lose(_db, _batch):
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(store, "record", lose)
        with pytest.raises(DatabaseUnavailable):
            await worker.reserve(ask(sari))
    await worker.link._batcher.close()
    assert state_of(redis_server, sari) == {}
    await worker.reserve(ask(sari))
    assert len(holds_of(redis_server, sari)) == 2


async def test_a_caller_who_gives_up_leaves_nothing_held(worker, sari, redis_server):
    await worker.reserve(ask(sari))
    leaving = [asyncio.ensure_future(worker.reserve(ask(sari))) for _ in range(20)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await worker.link._batcher.close()
    await worker.reserve(ask(sari))
    assert await worker.counted(sari) == (0, 200)
    assert len(holds_of(redis_server, sari)) == 2


async def test_the_engine_is_named_logged_and_counted_when_it_changes(new_worker, sari, new_redis):
    server = new_redis()
    worker = await new_worker(url=server.url, limits=Limits())
    switches = metrics.quota_engine_switches_total.labels("postgres")._value.get()
    await worker.reserve(ask(sari))
    assert await engine_in_force(server.url, Limits()) is Engine.REDIS
    server.kill()
    await worker.reserve(ask(sari))
    assert worker.quota.engine is Engine.POSTGRES
    assert await engine_in_force(server.url, Limits()) is Engine.POSTGRES
    assert metrics.quota_engine_switches_total.labels("postgres")._value.get() == switches + 1
    assert metrics.quota_engine.labels("postgres")._value.get() == 1
    assert metrics.quota_engine.labels("redis")._value.get() == 0
    assert await worker.counted(sari) == (0, 200)


async def test_without_an_address_limits_are_in_postgres(seeded):
    quota = await open_quota(seeded, Limits(), None)
    assert quota.engine is Engine.POSTGRES
    assert await engine_in_force(None, Limits()) is Engine.POSTGRES
    await quota.close()


async def test_every_date_is_named_as_the_calendar_names_it(worker, sari, redis_server):
    state = state_key(sari.account_id).decode()
    moment = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    calls, days = [], []
    for _ in range(1_500):
        calls.append(reserve_call(ask(sari), unix_us_of(moment)))
        days.append(moment.strftime("%Y-%m-%d"))
        moment += timedelta(days=25, microseconds=1)
    redis_server.ask("HSET", state, "server", worker.link._identity, "fence", "1", "built_us", "0", "in_flight", "0",
        "requests_tat_us", "0", "tokens_tat_us", "0")  # fmt: skip
    await asyncio.gather(*(worker.call(call) for call in calls))
    held = {name for name in state_of(redis_server, sari) if name.startswith("held:")}
    months = {day[:7] for day in days}
    expected = {*days, *months, *(f"{sari.key_id.hex}:{month}" for month in months)}
    assert held == {f"held:{whose}" for whose in expected}


async def test_doctor_says_what_a_server_is_and_whether_it_persists(redis_url, new_redis):
    report = await examine(redis_url)
    assert report.role == "master"
    assert report.faults == ()
    assert not report.persists
    replica = new_redis(
        "--save", "60 1", "--replicaof", "127.0.0.1", redis_url.rpartition(":")[2].split("/")[0]
    )
    report = await examine(replica.url)
    assert report.faults == ("it is not the primary",)
    assert report.persists
    assert await engine_in_force(replica.url, Limits()) is Engine.POSTGRES


async def test_one_node_of_a_cluster_runs_every_script(new_worker, sari, new_redis):
    server = new_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    for _ in range(200):
        if "cluster_state:ok" in server.ask("CLUSTER", "INFO"):
            break
        await asyncio.sleep(0.02)
    worker = await new_worker(url=server.url)
    request = ask(sari, month_limit=300)
    await worker.reserve(request)
    await worker.settle(request, 100)
    with pytest.raises(PriceMissing):
        await worker.reserve(ask(sari, model="unheard-of"))
    worker.quota._forget(sari.account_id, None)
    await worker.reserve(ask(sari, month_limit=300))
    assert worker.quota.engine is Engine.REDIS
    assert await worker.counted(sari) == (100, 100)
