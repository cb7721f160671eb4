"""Both engines and the pure rule are fed the same histories: every decision and every counter must be the same.

One account is decided by Postgres alone, another one by Redis and recorded in Postgres, the third one is the pure rule. The
database's clock is replaced by one that the histories move, over the ends of days and months and back.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.db.pool import Pool, open_pool
from gateway.errors import NusagateError
from gateway.ids import uuid7
from gateway.ledger import store as ledger_store
from gateway.ledger.model import EndReason, Settlement, UsageSource
from gateway.quota.model import Decision, InsufficientQuota, RateLimited, Reservation, ReserveRequest
from gateway.quota.outcome import refusal, reservation
from gateway.quota.redis_link import RedisLink
from gateway.quota.redis_quota import RedisQuota
from gateway.quota.redis_scripts import state_key
from gateway.quota.redis_server import exchange, make_connection, open_connection
from gateway.quota.rules import AccountLimits, unix_us_of
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits

NEVER_LATE = msgspec.structs.replace(Limits(), redis_timeout_ms=5_000)
START = datetime(2026, 11, 29, 23, 59, 58, tzinfo=UTC)
MODEL = "nusantara-base"

CLOCK = """
CREATE SCHEMA injected;
CREATE TABLE injected.moment AS SELECT timestamptz 'epoch' AS value;
CREATE FUNCTION injected.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT value FROM injected.moment';
"""
PEOPLE = """
INSERT INTO plan VALUES ('test', 'Test', 'free', NULL, NULL, NULL, NULL, NULL, 'drain', 1);
INSERT INTO price_book VALUES ('idr-1', 'idr', 1, '2020-01-01', NULL, NULL, NULL, '');
INSERT INTO price_rate VALUES ('idr-1', 'nusantara-base', 'input_text', 1);
UPDATE price_book SET published_at = now();
"""


class HistoryClock:
    """The clock of Redis, of Postgres and of the rule."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment


class World:
    """The three limiters of one history, and how to compare them."""

    def __init__(self, db: Pool, link: RedisLink, redis_url: str) -> None:
        self.db = db
        self.clock = HistoryClock()
        self.postgres = PostgresQuota(db, Limits(), clock=None)
        self.redis = RedisQuota(db, Limits(), link, PostgresQuota(db, Limits(), clock=None), clock=self.clock)
        self.link = link
        self._connection = make_connection(redis_url)

    async def begin(self) -> None:
        self.rule = AccountLimits()
        self.accounts = [uuid7() for _ in range(3)]
        self.latest = START
        await self.move_to(START)
        await self.db.executemany(
            "INSERT INTO account (account_id, email, plan_id, currency, created_at)"
            " VALUES ($1, $1::uuid::text, 'test', 'idr', now())",
            [(account_id,) for account_id in self.accounts[:2]],
        )

    async def move_to(self, moment: datetime) -> None:
        self.clock.moment = moment
        self.latest = max(self.latest, moment)
        await self.db.execute("UPDATE injected.moment SET value = $1", moment)

    async def reserve(self, request: ReserveRequest) -> list[object]:
        """Ask all three, and return what they answered."""
        by_postgres, by_redis, by_rule = (self._asked_by(request, number) for number in range(3))
        answers = [
            await _answer(self.postgres.reserve(by_postgres)),
            await _answer(self.redis.reserve(by_redis)),
        ]
        decision = self.rule.reserve(by_rule, unix_us_of(self.clock.moment))
        return [*answers, _describe(_outcome(by_rule, decision))]

    async def settle(self, request: ReserveRequest, used: int, *, released: bool) -> None:
        for number in range(2):
            await ledger_store.settle(
                self.db, [_settlement(self._asked_by(request, number), used, released=released)]
            )
        self.redis.settled(self._asked_by(request, 1), used)
        self.rule.settle(self._asked_by(request, 2).request_id, used, unix_us_of(self.clock.moment))

    async def counters(self) -> list[dict[str, int]]:
        """Read all that the three count, in the same form; zeros are left out."""
        postgres = [await self._postgres_counters(number) for number in range(2)]
        return [*postgres, await self._redis_counters(), self._rule_counters()]

    async def lose_redis(self) -> None:
        """Let Redis forget what it knows, so that it is read from Postgres at the next request."""
        self.redis._forget(self.accounts[1], None)

    def _asked_by(self, request: ReserveRequest, number: int) -> ReserveRequest:
        """The same request from another account."""
        return msgspec.structs.replace(
            request,
            account_id=self.accounts[number],
            request_id=UUID(int=request.request_id.int ^ number),
        )

    async def _postgres_counters(self, number: int) -> dict[str, int]:
        account_id = self.accounts[number]
        rows = await self.db.fetch("SELECT * FROM quota_counter WHERE account_id = $1", account_id)
        gate = await self.db.fetchrow("SELECT * FROM quota_gate WHERE account_id = $1", account_id)
        counted = {
            f"{word}:{_whose(row['subject_id'], account_id)}{row['period']}": row[f"{word}_tokens"]
            for row in rows
            for word in ("used", "held")
        }
        return _seen(counted, self.latest, gate["in_flight"], gate["requests_tat_us"], gate["tokens_tat_us"])

    async def _redis_counters(self) -> dict[str, int]:
        await self.link._batcher.close()
        await open_connection(self._connection)
        [reply] = await exchange(self._connection, [("HGETALL", state_key(self.accounts[1]))])
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        fields = {name.decode(): value.decode() for name, value in pairs}
        if not fields:
            return await self._postgres_counters(1)
        assert fields["in_flight"] == str(sum(name.startswith("hold:") for name in fields))
        return _seen(
            {name: int(value) for name, value in fields.items() if name.startswith(("used:", "held:"))},
            self.latest,
            int(fields["in_flight"]),
            int(fields["requests_tat_us"]),
            int(fields["tokens_tat_us"]),
        )

    def _rule_counters(self) -> dict[str, int]:
        counted = {
            f"{word}:{_whose(subject, self.accounts[2])}{period}": tokens
            for word, counter in (("used", self.rule.used), ("held", self.rule.held))
            for (subject, period), tokens in counter.items()
        }
        return _seen(
            counted,
            self.latest,
            len(self.rule.holds),
            self.rule.requests_tat_us,
            self.rule.tokens_tat_us,
        )


def _seen(counted: dict[str, int], latest: datetime, in_flight: int, *tats_us: int) -> dict[str, int]:
    """What matters of the counters: what is past by more than a day is not read again, and Redis lets go of it.

    It does not come back when the clock does: ``latest`` is the latest moment that there was.
    """
    day = (latest - timedelta(days=1)).strftime("%Y-%m-%d")
    current = {
        name: tokens
        for name, tokens in counted.items()
        if tokens and (period := name.rpartition(":")[2]) >= day[: len(period)]
    }
    return current | {"in_flight": in_flight, "requests_tat_us": tats_us[0], "tokens_tat_us": tats_us[1]}


def _whose(subject: UUID, account_id: UUID) -> str:
    return "" if subject == account_id else f"{subject.hex}:"


def _outcome(request: ReserveRequest, decision: Decision) -> Reservation | NusagateError:
    if decision.refused_by is not None:
        return refusal(request, decision)
    return reservation(request, decision, decision.admitted_at.strftime("%Y-%m"), "idr-1")


async def _answer(asked) -> object:
    try:
        return _describe(await asked)
    except (InsufficientQuota, RateLimited) as error:
        return _describe(error)


def _describe(outcome: Reservation | NusagateError) -> object:
    if isinstance(outcome, InsufficientQuota):
        return (outcome.code, outcome.message, outcome.quota, outcome.standing)
    if isinstance(outcome, RateLimited):
        return (outcome.limit, outcome.message, outcome.retry_after_s, outcome.standing)
    assert isinstance(outcome, Reservation)
    return msgspec.structs.replace(outcome, request_id=UUID(int=0))


def _settlement(request: ReserveRequest, used: int, *, released: bool) -> Settlement:
    return Settlement(
        request_id=request.request_id,
        account_id=request.account_id,
        entry_id=uuid7(),
        released=released,
        end_reason=EndReason.COMPLETED,
        upstream=None,
        duration_ms=1,
        output_text_tokens=used,
        usage_source=UsageSource.UPSTREAM,
    )


@pytest.fixture(scope="module")
def timed_database_url(new_database) -> str:
    """A database whose clock is a row of a table."""
    url: str = new_database()

    async def replace_the_clock() -> None:
        connection = await asyncpg.connect(url)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(CLOCK + PEOPLE)
        await connection.execute(f"ALTER DATABASE {name} SET search_path = injected, public, pg_catalog")
        await connection.close()

    asyncio.run(replace_the_clock())
    return url


async def open_world(database_url: str, redis_url: str) -> World:
    pool = await open_pool(database_url, Limits(), application="tests")
    link = RedisLink(redis_url, NEVER_LATE)
    world = World(pool, link, redis_url)
    await link.open()
    return world


KEYS = [UUID(int=number) for number in (1, 2)]
limit_of_tokens = st.none() | st.integers(100, 1_000) | st.sampled_from([0, 1, 64, 2**60])
limit_of_minutes = st.none() | st.integers(1, 9) | st.sampled_from([0, 60, 60_000_000])
limit_of_minute_tokens = (
    st.none() | st.integers(100, 1_000) | st.sampled_from([0, 1, 99, 100_003, 60_000_000])
)
waits = st.one_of(
    st.integers(0, 3_000_000),
    st.sampled_from([1, 999_999, 60_000_000, 86_400_000_000, 33 * 86_400_000_000]),
    st.sampled_from([-1, -2_000_000, -90_000_000_000]),
)


@st.composite
def requests(draw) -> ReserveRequest:
    return ReserveRequest(
        request_id=uuid7(),
        account_id=UUID(int=0),
        key_id=draw(st.sampled_from(KEYS)),
        model=MODEL,
        endpoint="/v1/chat/completions",
        stream=False,
        plan_id="test",
        billable=False,
        currency="idr",
        input_tokens=draw(st.integers(0, 60)),
        output_tokens=draw(st.integers(0, 100)),
        output_min=draw(st.integers(0, 20)),
        choices=draw(st.integers(1, 3)),
        deadline_s=600,
        month_limit=draw(limit_of_tokens),
        day_limit=draw(limit_of_tokens),
        key_limit=draw(limit_of_tokens),
        requests_per_minute=draw(limit_of_minutes),
        tokens_per_minute=draw(limit_of_minute_tokens),
        concurrency=draw(st.none() | st.integers(0, 4)),
    )


def history_machine(runner: asyncio.Runner, world: World) -> type[RuleBasedStateMachine]:
    """Makes the machine that plays histories in one world, each with accounts of its own."""

    class History(RuleBasedStateMachine):
        open_requests: list[ReserveRequest]

        @initialize()
        def begin(self) -> None:
            self.open_requests = []
            runner.run(world.begin())

        @rule(request=requests())
        def reserve(self, request: ReserveRequest) -> None:
            answers = runner.run(world.reserve(request))
            assert answers[0] == answers[2], "Postgres and the rule"
            assert answers[1] == answers[2], "Redis and the rule"
            if isinstance(answers[2], Reservation):
                self.open_requests.append(request)
            self._compare()

        @precondition(lambda self: self.open_requests)
        @rule(data=st.data())
        def repeat(self, data) -> None:
            request = data.draw(st.sampled_from(self.open_requests))
            answers = runner.run(world.reserve(request))
            assert isinstance(answers[2], Reservation)
            assert answers[0] == answers[1] == answers[2]
            self._compare()

        @precondition(lambda self: self.open_requests)
        @rule(data=st.data(), used=st.integers(0, 500), released=st.booleans())
        def end(self, data, *, used: int, released: bool) -> None:
            request = data.draw(st.sampled_from(self.open_requests))
            self.open_requests.remove(request)
            runner.run(world.settle(request, 0 if released else used, released=released))
            self._compare()

        @rule(wait_us=waits)
        def wait(self, wait_us: int) -> None:
            runner.run(world.move_to(world.clock.moment + timedelta(microseconds=wait_us)))

        @rule()
        def lose_redis(self) -> None:
            runner.run(world.lose_redis())

        def _compare(self) -> None:
            by_postgres, recorded, by_redis, by_rule = runner.run(world.counters())
            assert by_postgres == by_rule, "Postgres and the rule"
            assert recorded == by_rule, "what Redis admitted, in Postgres, and the rule"
            assert by_redis == by_rule, "Redis and the rule"

    return History


@pytest.mark.slow
def test_both_engines_and_the_rule_agree_on_every_history(timed_database_url, redis_url):
    with asyncio.Runner() as runner:
        world = runner.run(open_world(timed_database_url, redis_url))
        run_state_machine_as_test(
            history_machine(runner, world),
            settings=settings(
                max_examples=120,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
        runner.run(world.redis.close())
        runner.run(world.db.close())
