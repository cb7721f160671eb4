"""What a difference between two sums says about batches that Stripe may have."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from billing.reconcile.model import DOUBTFUL_MAX, Books, Doubtful, Kind, explain, ranges

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def books(accepted, *doubtful, busy=False, changed_at=NOON):
    return Books(
        accepted=accepted,
        doubtful=tuple(Doubtful(UUID(int=n), value, NOON) for n, value in enumerate(doubtful)),
        busy=busy,
        changed_at=changed_at,
    )


def values(batches):
    return [batch.value for batch in batches]


def test_equal_sums_are_equal():
    assert explain(books(12), 12).kind is Kind.EQUAL
    assert explain(books(0), 0).kind is Kind.EQUAL


def test_less_is_missing_and_more_is_a_surplus():
    assert explain(books(12), 11).kind is Kind.MISSING
    assert explain(books(12), 13).kind is Kind.SURPLUS


def test_the_doubtful_batches_that_fill_the_gap_are_there():
    explanation = explain(books(10, 3, 5, 9), 18)
    assert (explanation.kind, values(explanation.present), values(explanation.absent)) == (
        Kind.EQUAL, [3, 5], [9],
    )  # fmt: skip


def test_a_gap_that_no_batch_fills_is_unclear():
    assert explain(books(10, 3, 5), 14).kind is Kind.UNCLEAR


def test_less_than_what_was_accepted_is_missing_even_with_doubtful_batches():
    assert explain(books(10, 3), 9).kind is Kind.MISSING


def test_a_correction_may_be_doubtful_too():
    explanation = explain(books(10, -4), 6)
    assert (explanation.kind, values(explanation.present)) == (Kind.EQUAL, [-4])


def test_too_many_doubtful_batches_are_for_an_operator():
    assert explain(books(0, *[1] * (DOUBTFUL_MAX + 1)), 3).kind is Kind.UNCLEAR


@given(
    st.integers(-1000, 1000),
    st.lists(st.integers(-50, 50).filter(bool), max_size=10),
    st.integers(0, 2**10 - 1),
)
def test_whatever_stripe_has_of_the_doubtful_ones_the_total_comes_out_right(accepted, doubtful, chosen):
    there = sum(value for n, value in enumerate(doubtful) if chosen >> n & 1)
    explanation = explain(books(accepted, *doubtful), accepted + there)
    assert explanation.kind is Kind.EQUAL
    counted_and_sent_again = accepted + there + sum(values(explanation.absent))
    assert counted_and_sent_again == accepted + sum(doubtful)


def test_nothing_is_said_while_something_is_on_its_way_or_was_a_moment_ago():
    assert not books(1, busy=True, changed_at=None).is_settled(NOON)
    assert not books(1).is_settled(NOON + timedelta(minutes=9))
    assert books(1).is_settled(NOON + timedelta(minutes=10))


def test_hours_are_read_together_in_ranges_of_four_days():
    hours = [NOON, NOON + 95 * HOUR, NOON + 96 * HOUR, NOON + 300 * HOUR]
    assert ranges(hours) == [
        (NOON, NOON + 96 * HOUR),
        (NOON + 96 * HOUR, NOON + 97 * HOUR),
        (NOON + 300 * HOUR, NOON + 301 * HOUR),
    ]
