"""A minute limit never admits more than it says, and never refuses more than it must."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.quota.gcra import MINUTE_US, UNITS_MAX, gcra, gcra_refund

START_US = 1_790_000_000_000_000

limits = st.one_of(st.integers(1, 100), st.sampled_from([600, 66_667, 7_000_003]), st.integers(1, UNITS_MAX))
small_limits = st.integers(1, 200)
bursts = st.integers(1, 200)
waits = st.one_of(st.just(0), st.integers(1, 3), st.integers(0, 2 * MINUTE_US))
arrivals = st.lists(st.tuples(waits, st.integers(1, 60)), min_size=1, max_size=40)


def admit_all(arrivals, *, limit_per_minute, burst):
    """Return (moment, cost) of what one bucket admits."""
    now_us, tat_us, admitted = START_US, 0, []
    for wait_us, cost in arrivals:
        now_us += wait_us
        decision = gcra(tat_us, now_us, cost=cost, limit_per_minute=limit_per_minute, burst=burst)
        tat_us = decision.tat_us
        if decision.allowed:
            admitted.append((now_us, cost))
    return admitted


def fullest_minute(admitted):
    """Return the most units in any closed window of 60 s, by trying each one that starts at an admission."""
    return max(
        (
            sum(cost for at_us, cost in admitted if 0 <= at_us - from_us <= MINUTE_US)
            for from_us, _ in admitted
        ),
        default=0,
    )


@given(arrivals, small_limits, bursts)
def test_no_minute_admits_more_than_limit_and_burst(arrivals, limit, burst):
    admitted = admit_all(arrivals, limit_per_minute=limit, burst=burst)
    assert fullest_minute(admitted) <= limit + burst


@given(arrivals, small_limits, bursts)
def test_no_instant_admits_more_than_the_burst(arrivals, limit, burst):
    admitted = admit_all([(0, cost) for _, cost in arrivals], limit_per_minute=limit, burst=burst)
    assert sum(cost for _, cost in admitted) <= burst


@given(arrivals, small_limits, bursts)
def test_it_decides_as_an_exact_bucket_does_but_for_one_microsecond_a_request(arrivals, limit, burst):
    """The exact bucket holds fractions of units; each admission here may cost up to 1 us more than there."""
    interval_us = Fraction(MINUTE_US, limit)
    now_us, tat_us, exact_tat_us, requests = START_US, 0, Fraction(0), 0
    for wait_us, cost in arrivals:
        now_us += wait_us
        decision = gcra(tat_us, now_us, cost=cost, limit_per_minute=limit, burst=burst)
        exact_after_us = max(exact_tat_us, now_us) + cost * interval_us
        if decision.allowed:
            tat_us, exact_tat_us, requests = decision.tat_us, exact_after_us, requests + 1
            assert 0 <= tat_us - exact_tat_us < requests
            assert exact_after_us - now_us < (burst + 1) * interval_us
        else:
            assert cost > burst or exact_after_us - now_us > burst * interval_us - requests - 1


@given(st.integers(0, 3 * MINUTE_US), st.integers(0, 300), limits, bursts)
def test_remaining_is_the_largest_cost_that_fits(ahead_us, cost, limit, burst):
    decision = gcra(START_US + ahead_us, START_US, cost=cost, limit_per_minute=limit, burst=burst)

    def fits(next_cost):
        return gcra(decision.tat_us, START_US, cost=next_cost, limit_per_minute=limit, burst=burst).allowed

    assert 0 <= decision.remaining <= burst
    assert decision.remaining == 0 or fits(decision.remaining)
    assert not fits(decision.remaining + 1)


@given(st.integers(0, 3 * MINUTE_US), st.integers(0, 300), limits, bursts)
def test_retry_after_is_the_first_moment_that_admits(ahead_us, cost, limit, burst):
    tat_us = START_US + ahead_us
    decision = gcra(tat_us, START_US, cost=cost, limit_per_minute=limit, burst=burst)
    assert decision.impossible == (cost > burst)
    if decision.allowed or decision.impossible:
        assert decision.retry_after_us == 0
        return
    assert decision.tat_us == tat_us
    first_us = START_US + decision.retry_after_us
    assert gcra(tat_us, first_us, cost=cost, limit_per_minute=limit, burst=burst).allowed
    assert not gcra(tat_us, first_us - 1, cost=cost, limit_per_minute=limit, burst=burst).allowed


@given(limits, st.integers(1, UNITS_MAX))
def test_the_whole_burst_always_fits_into_a_full_bucket(limit, burst):
    decision = gcra(0, START_US, cost=burst, limit_per_minute=limit, burst=burst)
    assert decision.allowed
    assert decision.remaining == 0


@given(limits, st.integers(1, UNITS_MAX), st.integers(0, UNITS_MAX))
def test_division_by_doubles_gives_the_same_integers(limit, burst, cost):
    """What Lua computes: the quotient of two doubles, rounded down."""
    tolerance_dividend = MINUTE_US * (burst + 1) - 1
    assert int(tolerance_dividend / limit) == tolerance_dividend // limit
    cost_dividend = cost * MINUTE_US + limit - 1
    assert int(cost_dividend / limit) == -(-cost * MINUTE_US // limit)


held_requests = st.lists(
    st.tuples(waits, st.integers(1, 60), st.integers(0, 60), st.integers(0, 2 * MINUTE_US)),
    min_size=1,
    max_size=25,
)


@given(held_requests, small_limits, bursts)
def test_refunds_never_make_a_bucket_more_generous_than_the_true_costs_would(requests, limit, burst):
    """Two buckets side by side: one holds and refunds, the other is charged the true cost from the start."""
    now_us, tat_us, true_tat_us = START_US, 0, 0
    open_refunds, used = [], []

    def give_back(until_us):
        nonlocal tat_us
        for due in sorted(due for due in open_refunds if due[0] <= until_us):
            open_refunds.remove(due)
            at_us, back, admitted_us = due
            tat_us = gcra_refund(
                tat_us, at_us, cost_back=back, admitted_us=admitted_us, limit_per_minute=limit
            )
            assert max(tat_us, at_us) >= max(true_tat_us, at_us)

    for wait_us, cost, back, held_us in requests:
        now_us += wait_us
        give_back(now_us)
        decision = gcra(tat_us, now_us, cost=cost, limit_per_minute=limit, burst=burst)
        tat_us = decision.tat_us
        if decision.allowed:
            true_cost = max(0, cost - back)
            true_tat_us = max(true_tat_us, now_us) - (-true_cost * MINUTE_US // limit)
            open_refunds.append((now_us + held_us, cost - true_cost, now_us))
            used.append((now_us, true_cost))
    give_back(now_us + 2 * MINUTE_US)
    assert fullest_minute(used) <= limit + burst
