"""Minute limits, by example."""

import pytest

from gateway.quota.gcra import MINUTE_US, UNITS_MAX, GcraDecision, gcra, gcra_refund

NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000


def ask(tat_us, now_us=NOW_US, *, cost=1, limit=20, burst=20):
    return gcra(tat_us, now_us, cost=cost, limit_per_minute=limit, burst=burst)


def test_the_first_request_finds_a_full_bucket():
    assert ask(0) == GcraDecision(
        allowed=True,
        tat_us=NOW_US + 3 * SECOND_US,
        retry_after_us=0,
        remaining=19,
        reset_us=3 * SECOND_US,
    )


@pytest.mark.parametrize("limit", [1, 7, 20, 66_667])
def test_exactly_the_burst_is_admitted_in_one_instant(limit):
    tat_us, admitted = 0, 0
    while (decision := ask(tat_us, limit=limit, burst=7)).allowed:
        tat_us, admitted = decision.tat_us, admitted + 1
        assert decision.remaining == 7 - admitted
    assert admitted == 7


def test_a_refusal_says_when_to_come_back_and_changes_nothing():
    full_us = ask(0, cost=20).tat_us
    refused = ask(full_us)
    assert not refused.allowed
    assert not refused.impossible
    assert refused.tat_us == full_us
    assert refused.remaining == 0
    assert refused.reset_us == MINUTE_US
    assert not ask(full_us, NOW_US + refused.retry_after_us - 1).allowed
    assert ask(full_us, NOW_US + refused.retry_after_us).allowed


def test_a_cost_above_the_burst_is_impossible_and_not_a_matter_of_waiting():
    decision = ask(0, cost=21)
    assert decision.impossible
    assert not decision.allowed
    assert decision.retry_after_us == 0
    assert decision.remaining == 20


def test_a_cost_of_the_whole_burst_is_possible():
    assert ask(0, cost=20).remaining == 0


def test_looking_costs_nothing():
    assert ask(0, cost=0).remaining == 20


def test_a_clock_that_steps_back_admits_nothing_extra():
    later_us = ask(0, cost=20).tat_us
    decision = ask(later_us, NOW_US - 3600 * SECOND_US)
    assert not decision.allowed
    assert decision.remaining == 0


def test_a_refund_at_once_undoes_the_admission():
    held = ask(0, cost=15)
    tat_us = gcra_refund(held.tat_us, NOW_US, cost_back=15, admitted_us=NOW_US, limit_per_minute=20)
    assert ask(tat_us, cost=0).remaining == 20


def test_a_refund_gives_back_only_what_cannot_have_drained():
    held = ask(0, cost=15)
    now_us = NOW_US + 30 * SECOND_US
    tat_us = gcra_refund(held.tat_us, now_us, cost_back=15, admitted_us=NOW_US, limit_per_minute=20)
    assert tat_us == held.tat_us - 15 * SECOND_US
    assert ask(tat_us, now_us, cost=0).remaining == 20


def test_a_reservation_held_for_a_minute_cannot_be_used_twice():
    slow = ask(0, cost=20)
    now_us = NOW_US + MINUTE_US
    second = ask(slow.tat_us, now_us, cost=20)
    tat_us = gcra_refund(second.tat_us, now_us, cost_back=20, admitted_us=NOW_US, limit_per_minute=20)
    assert not ask(tat_us, now_us).allowed


def test_the_largest_numbers_stay_exact_in_a_double():
    assert MINUTE_US * (UNITS_MAX + 1) + UNITS_MAX < 2**53
    assert NOW_US + MINUTE_US * (UNITS_MAX + 1) < 2**53
    assert ask(0, cost=UNITS_MAX, limit=UNITS_MAX, burst=UNITS_MAX).allowed


@pytest.mark.parametrize("limit", [1, 7, 20, 100, 1_000])
def test_one_more_than_the_limit_does_not_pass_a_moment_later(limit):
    tat_us = 0
    for _ in range(limit):
        decision = gcra(tat_us, 1_000_000, cost=1, limit_per_minute=limit, burst=limit)
        assert decision.allowed
        tat_us = decision.tat_us
    interval_us = 60_000_000 // limit
    assert not gcra(
        tat_us, 1_000_000 + interval_us - 2 * limit - 2, cost=1, limit_per_minute=limit, burst=limit
    ).allowed
