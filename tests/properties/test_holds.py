"""Reserving, settling and releasing in Postgres do what a few lines of arithmetic say, in any order and however often.

The model below shares no code with the engine. Minute limits have their own properties in ``test_gcra.py``.
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.accounts import service as accounts
from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.clock import SystemClock
from gateway.db.pool import open_pool
from gateway.errors import NusagateError
from gateway.ids import uuid7
from gateway.ledger import service as ledger_service
from gateway.ledger.model import EndReason, Settlement, UsageSource
from gateway.ledger.service import Ledger, SettlementLost
from gateway.quota.model import InsufficientQuota, RateLimited, ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.units import Currency
from tests.plugins.cast import MovableClock

NEAR_A_MONTH_END = datetime(2026, 11, 29, 23, 59, 58, tzinfo=UTC)
MOVES = [timedelta(seconds=1), timedelta(hours=3), timedelta(days=1), timedelta(days=20)]

numbers = count(1)
"""Requests get ids in the order in which they are made, because that is the order in which a batch is decided."""

some_tokens = st.integers(0, 60)
maybe_limit = st.none() | st.integers(0, 300)
wishes = st.fixed_dictionaries(
    {
        "key": st.integers(0, 1),
        "input_tokens": some_tokens,
        "output_tokens": some_tokens,
        "output_min": st.integers(0, 16),
        "choices": st.integers(1, 3),
    }
)


class Engine:
    """The real engine and ledger on a loop of their own, and a clock that is moved."""

    def __init__(self, database_url):
        self.loop = asyncio.new_event_loop()
        self.clock = MovableClock()
        self.db = self.run(open_pool(database_url, Limits(), application="tests"))
        self.quota = PostgresQuota(self.db, Limits(), clock=self.clock)
        self.ledger = Ledger(self.db, Limits(), health=None, spool=None)

    def run(self, work):
        return self.loop.run_until_complete(work)

    def close(self):
        for work in (self.quota.close(), self.ledger.close(), self.db.close()):
            self.run(work)
        self.loop.close()


class Model:
    """What is used and held, by (subject, period), and who may still be admitted."""

    def __init__(self, account, month_limit, day_limit, key_limit, concurrency):
        self.account = account
        self.limits = {"month": month_limit, "key_month": key_limit, "tokens_per_day": day_limit}
        self.concurrency = concurrency
        self.used, self.held, self.in_flight = Counter(), Counter(), 0

    def places(self, key, now):
        return {
            "month": (self.account, f"{now:%Y-%m}"),
            "key_month": (key, f"{now:%Y-%m}"),
            "tokens_per_day": (self.account, f"{now:%Y-%m-%d}"),
        }

    def reserve(self, request, now):
        """The output granted, or the name of the limit that refuses."""
        places = self.places(request.key_id, now)
        rooms = {
            name: limit - self.used[places[name]] - self.held[places[name]]
            for name, limit in self.limits.items()
            if limit is not None
        }
        scope = min(rooms, key=rooms.get, default=None)
        granted = request.output_tokens
        if scope is not None:
            granted = min(granted, (rooms[scope] - request.input_tokens) // request.choices)
        if granted < min(request.output_min, request.output_tokens):
            return scope
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            return "concurrency"
        self.in_flight += 1
        for place in places.values():
            self.held[place] += request.input_tokens + request.choices * granted
        return granted

    def close(self, hold, used):
        self.in_flight -= 1
        for place in hold.places:
            self.held[place] -= hold.reserved
            self.used[place] += used


class Hold(msgspec.Struct, eq=False):
    """One admitted request as the test remembers it."""

    request: ReserveRequest
    granted: int
    places: list
    reserved: int
    state: str = "open"


def refusal_of(error):
    if isinstance(error, InsufficientQuota):
        return error.quota.scope
    assert isinstance(error, RateLimited), error
    return error.limit


class Holds(RuleBasedStateMachine):
    """One account with two keys; ``engine`` is set by the test."""

    engine: Engine
    holds = Bundle("holds")

    @initialize(
        month=maybe_limit, day=maybe_limit, key=maybe_limit, concurrency=st.none() | st.integers(0, 4)
    )
    def open_account(self, month, day, key, concurrency):
        self.engine.clock.moment = NEAR_A_MONTH_END
        made = accounts.create(
            self.engine.db,
            SystemClock(),
            email=f"{uuid4().hex}@example.com",
            plan_id="free",
            currency=Currency.IDR,
        )
        self.account = self.engine.run(made).account_id
        self.keys = sorted((uuid4(), uuid4()))
        self.limits = {"month_limit": month, "day_limit": day, "key_limit": key, "concurrency": concurrency}
        self.model = Model(self.account, month, day, key, concurrency)

    @rule(target=holds, asked=st.lists(wishes, min_size=1, max_size=4))
    def reserve_at_once(self, asked):
        requests = sorted(
            (self.request(**wish) for wish in asked), key=lambda one: (one.key_id, one.request_id)
        )
        now = self.engine.clock.moment
        expected = [self.model.reserve(request, now) for request in requests]

        async def all_of_them():
            return await asyncio.gather(*map(self.engine.quota.reserve, requests), return_exceptions=True)

        got = self.engine.run(all_of_them())
        assert [
            refusal_of(one) if isinstance(one, NusagateError) else one.granted_output_tokens for one in got
        ] == expected
        return multiple(
            *(
                Hold(
                    request,
                    one.granted_output_tokens,
                    list(self.model.places(request.key_id, now).values()),
                    one.reserved_tokens,
                )
                for request, one in zip(requests, got, strict=True)
                if not isinstance(one, NusagateError)
            )
        )

    @rule(hold=holds)
    def reserve_again(self, hold):
        """A repeated reservation is the one that exists."""
        if hold.state == "open":
            again = self.engine.run(self.engine.quota.reserve(hold.request))
            assert again.granted_output_tokens == hold.granted

    @rule(hold=holds, input_tokens=some_tokens, output_tokens=some_tokens)
    def settle(self, hold, input_tokens, output_tokens):
        self.end(hold, "settled", input_tokens, output_tokens)

    @rule(hold=holds)
    def release(self, hold):
        self.end(hold, "released", 0, 0)

    @rule(move=st.sampled_from(MOVES))
    def wait(self, move):
        self.engine.clock.move(move)

    def end(self, hold, state, input_tokens, output_tokens):
        """End a request; a second end changes nothing, and one that contradicts the first is told so."""
        settlement = Settlement(
            request_id=hold.request.request_id,
            account_id=self.account,
            entry_id=uuid7(),
            released=state == "released",
            end_reason=EndReason.COMPLETED,
            upstream=None,
            duration_ms=1,
            input_text_tokens=input_tokens,
            output_text_tokens=output_tokens,
            amount_pico=input_tokens * 300_000_000 + output_tokens * 1_500_000_000,
            usage_source=UsageSource.UPSTREAM,
        )
        if hold.state not in ("open", state):
            with pytest.raises(SettlementLost):
                self.engine.run(self.settled(settlement))
            return
        self.engine.run(self.settled(settlement))
        if hold.state == "open":
            hold.state = state
            self.model.close(hold, input_tokens + output_tokens)

    async def settled(self, settlement):
        await self.engine.ledger.settle(settlement)

    def request(self, *, key, **wish):
        return ReserveRequest(
            request_id=UUID(int=next(numbers)), account_id=self.account, key_id=self.keys[key], model="nusantara-base",
            endpoint="responses", stream=False, plan_id="free", billable=False, currency="idr", deadline_s=60,
            **wish, **self.limits,
        )  # fmt: skip

    @invariant()
    def the_counters_are_the_models(self):
        if not hasattr(self, "model"):
            return
        used, held, in_flight = self.engine.run(self.counters())
        assert used == +self.model.used
        assert held == +self.model.held
        assert in_flight == self.model.in_flight

    async def counters(self):
        rows = await self.engine.db.fetch("SELECT * FROM quota_counter WHERE account_id = $1", self.account)
        in_flight = await self.engine.db.fetchval(
            "SELECT in_flight FROM quota_gate WHERE account_id = $1", self.account
        )
        places = {(UUID(str(row["subject_id"])), row["period"]): row for row in rows}
        used = Counter({place: row["used_tokens"] for place, row in places.items()})
        held = Counter({place: row["held_tokens"] for place, row in places.items()})
        return +used, +held, in_flight


@pytest.fixture(scope="module")
def engine(new_database):
    running = Engine(new_database())

    async def seed():
        async with running.db.acquire() as connection, connection.transaction():
            await apply_seed(connection, SystemClock(), load_seed(SEED_FILES))

    running.run(seed())
    yield running
    running.close()


@pytest.mark.slow
def test_holds_are_what_the_model_says_whatever_happens_in_whatever_order(engine):
    Holds.engine = engine
    run_state_machine_as_test(
        Holds, settings=settings(max_examples=100, stateful_step_count=20, deadline=None)
    )
    checks = engine.run(ledger_service.verify(engine.db))
    ignored = {"every month has its partition"}  # the clock is moved into months that nobody prepared
    assert [check for check in checks if not check.ok and check.invariant not in ignored] == []
