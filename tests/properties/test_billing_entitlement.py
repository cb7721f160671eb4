"""Entitlements do not depend on the order of what they follow from, and change by time only when they say so."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from billing.subscriptions.model import Subscription, entitle

NOW = datetime(2026, 11, 23, tzinfo=UTC)
GRACE = timedelta(days=7)
ACCOUNT = UUID(int=1)


def subscription(status="active", plan="basic", *, number=1, **more):
    given_ = {
        "subscription_id": f"sub_{number}",
        "account_id": ACCOUNT,
        "customer_id": "cus_1",
        "status": status,
        "plan_id": plan,
        "flat_item_id": "si_1",
        "metered_item_id": None,
        "started_at": NOW - timedelta(days=40) + timedelta(days=number),
        "period_start": NOW - timedelta(days=22),
        "period_end": NOW + timedelta(days=8),
        "cancel_at": None,
        "ended_at": None,
        "owed_since": None,
        "held_plan_id": None,
        "held_until": None,
        "asked_at": NOW,
    }
    return Subscription(**{**given_, **more})


def decide(*subscriptions, now=NOW):
    return entitle(subscriptions, (), now=now, grace=GRACE)


MOMENTS = st.sampled_from([None, *(NOW + timedelta(days=days) for days in (-30, -7, -6, 0, 6, 8))])
SUBSCRIPTIONS = st.builds(
    lambda number, status, plan, owed, held, cancel: subscription(
        status, plan, number=number, owed_since=owed, held_plan_id="pro", held_until=held, cancel_at=cancel
    ),
    st.integers(1, 5),
    st.sampled_from(["active", "past_due", "unpaid", "canceled", "incomplete", "paused"]),
    st.sampled_from([None, "basic", "standard"]),
    MOMENTS, MOMENTS, MOMENTS,
)  # fmt: skip


@given(st.lists(SUBSCRIPTIONS, max_size=4, unique_by=lambda s: s.subscription_id), st.randoms())
def test_the_order_of_subscriptions_does_not_matter(subscriptions, dice):
    shuffled = list(subscriptions)
    dice.shuffle(shuffled)
    assert decide(*shuffled) == decide(*subscriptions)


@given(st.lists(SUBSCRIPTIONS, max_size=4, unique_by=lambda s: s.subscription_id))
def test_nothing_changes_by_time_before_the_review(subscriptions):
    found = decide(*subscriptions)
    if found.review_at is None:
        assert decide(*subscriptions, now=NOW + timedelta(days=365)) == found
    else:
        assert found.review_at > NOW
        assert decide(*subscriptions, now=found.review_at - timedelta(microseconds=1)) == found
