"""The rule of all limits, for every history: no limit is passed, nothing is lost, and the innocent are not refused."""

import itertools
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.quota.model import ReserveRequest
from gateway.quota.rules import AccountLimits, counted_for, moment_of, unix_us_of

SARI = UUID(int=1)
KEYS = [UUID(int=2), UUID(int=3)]
MONTH_LIMIT, DAY_LIMIT, KEY_LIMIT, CONCURRENCY = 1_000, 600, 500, 4
REQUESTS_A_MINUTE, TOKENS_A_MINUTE = 7, 400
MINUTE_US = 60_000_000


class Account(RuleBasedStateMachine):
    """One account with every limit, whose requests never use more than they reserved."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = AccountLimits()
        self.now_us = unix_us_of(datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC))
        self.admitted: list[tuple[int, int]] = []
        self.ids = itertools.count(1)
        self.spent: dict[tuple[UUID, str], int] = {}

    @rule(
        key=st.sampled_from(KEYS),
        input_tokens=st.integers(0, 200),
        output_tokens=st.integers(1, 200),
        choices=st.integers(1, 3),
    )
    def reserve(self, key, input_tokens, output_tokens, choices):
        request = ReserveRequest(
            request_id=self._next_id(),
            account_id=SARI,
            key_id=key,
            model="m",
            endpoint="e",
            stream=False,
            plan_id="free",
            billable=False,
            currency="idr",
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            output_min=min(16, output_tokens),
            choices=choices,
            deadline_s=600,
            month_limit=MONTH_LIMIT,
            day_limit=DAY_LIMIT,
            key_limit=KEY_LIMIT,
            requests_per_minute=REQUESTS_A_MINUTE,
            tokens_per_minute=TOKENS_A_MINUTE,
            concurrency=CONCURRENCY,
        )
        room = min(self._rooms(request))
        decision = self.limits.reserve(request, self.now_us)
        least = input_tokens + choices * request.output_min
        if decision.refused_by is None:
            assert decision.granted_output >= request.output_min
            reserved = input_tokens + choices * decision.granted_output
            assert reserved <= room
            assert decision.granted_output == output_tokens or reserved + choices > min(room, TOKENS_A_MINUTE)
            self.admitted.append((self.now_us, reserved))
        elif decision.refused_by in {"month", "key_month", "tokens_per_day"}:
            assert least > room
        else:
            assert decision.retry_after_us > 0

    @precondition(lambda self: self.limits.holds)
    @rule(data=st.data())
    def settle(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.limits.holds)))
        held = self.limits.holds[request_id]
        used = data.draw(st.integers(0, held.reserved_tokens))
        assert self.limits.settle(request_id, used, self.now_us)
        for counted in held.counted:
            self.spent[counted] = self.spent.get(counted, 0) + used
        assert not self.limits.settle(request_id, used, self.now_us)

    @precondition(lambda self: self.limits.holds)
    @rule(data=st.data())
    def repeat(self, data):
        held = self.limits.holds[data.draw(st.sampled_from(sorted(self.limits.holds)))]
        before = self.limits.held.copy()
        again = self.limits.reserve(held.request, self.now_us)
        assert again.refused_by is None
        assert again.granted_output == held.granted_output
        assert again.admitted_at == moment_of(held.admitted_us)
        assert self.limits.held == before

    @precondition(lambda self: self.limits.holds)
    @rule(data=st.data())
    def release(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.limits.holds)))
        held = self.limits.holds[request_id]
        assert self.limits.release(request_id)
        assert not self.limits.release(request_id)
        self.admitted.remove((held.admitted_us, held.reserved_tokens))

    @rule(wait_us=st.one_of(st.integers(0, 5_000_000), st.sampled_from([MINUTE_US, 86_400_000_000])))
    def wait(self, wait_us):
        self.now_us += wait_us

    @invariant()
    def no_limit_is_passed(self):
        for counter, limit in self._counters():
            assert self.limits.used[counter] + self.limits.held[counter] <= limit

    @invariant()
    def what_is_used_and_held_is_the_sum_of_the_requests(self):
        for counter, _ in self._counters():
            held = sum(held.reserved_tokens for held in self.limits.holds.values() if counter in held.counted)
            assert self.limits.held[counter] == held
            assert self.limits.used[counter] == self.spent.get(counter, 0)

    @invariant()
    def no_more_requests_than_the_limit_are_in_flight_or_admitted_in_a_minute(self):
        assert len(self.limits.holds) <= CONCURRENCY
        for start_us, _ in self.admitted:
            in_a_minute = sum(start_us <= moment_us < start_us + MINUTE_US for moment_us, _ in self.admitted)
            assert in_a_minute <= 2 * REQUESTS_A_MINUTE

    def _next_id(self):
        return UUID(int=next(self.ids))

    def _counters(self):
        counters = set(self.limits.used) | set(self.limits.held)
        for subject, period in counters:
            if len(period) > len("2026-11"):
                yield (subject, period), DAY_LIMIT
            else:
                yield (subject, period), MONTH_LIMIT if subject == SARI else KEY_LIMIT

    def _rooms(self, request):
        limits = (MONTH_LIMIT, DAY_LIMIT, KEY_LIMIT)
        counted = counted_for(request, moment_of(self.now_us))
        return [
            limit - self.limits.used[counter] - self.limits.held[counter]
            for limit, counter in zip(limits, counted, strict=True)
        ]


TestAccount = Account.TestCase
