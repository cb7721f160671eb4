"""What an account is entitled to follows from its subscriptions and disputes alone."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from billing.subscriptions.model import Dispute, Entitlement, Notice, Subscription, entitle
from gateway.accounts.model import AccountStatus

NOW = datetime(2026, 11, 23, tzinfo=UTC)
GRACE = timedelta(days=7)
ACCOUNT = UUID(int=1)
ACTIVE, STOPPED = AccountStatus.ACTIVE, AccountStatus.PAYMENT_REQUIRED


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


def dispute(status="needs_response", **more):
    given_ = {
        "dispute_id": "du_1",
        "account_id": ACCOUNT,
        "charge_id": "ch_1",
        "amount_minor": 999_900,
        "currency": "idr",
        "reason": "fraudulent",
        "status": status,
        "created_at": NOW - timedelta(days=1),
        "due_by": None,
        "asked_at": NOW,
    }
    return Dispute(**{**given_, **more})


def decide(*subscriptions, disputes=(), now=NOW):
    return entitle(subscriptions, disputes, now=now, grace=GRACE)


def test_without_a_subscription_an_account_is_free():
    assert decide() == Entitlement(plan_id="free", status=ACTIVE)


@pytest.mark.parametrize(
    ("status", "plan"),
    [
        ("active", "basic"), ("trialing", "basic"), ("past_due", "basic"), ("unpaid", "basic"),
        ("incomplete", "free"), ("incomplete_expired", "free"), ("canceled", "free"), ("paused", "free"),
        ("something_new", "free"),
    ],
)  # fmt: skip
def test_each_status_gives_its_plan_or_none(status, plan):
    assert decide(subscription(status)).plan_id == plan


def test_a_subscription_to_something_else_gives_no_plan():
    assert decide(subscription(plan=None)).plan_id == "free"


def test_the_newest_running_subscription_gives_the_plan():
    older, newer = subscription(plan="basic", number=1), subscription(plan="pro", number=2)
    ended = subscription("canceled", plan="standard", number=3)
    assert decide(ended, newer, older).plan_id == "pro"


@pytest.mark.parametrize("status", ["past_due", "unpaid", "canceled"])
def test_a_debt_has_its_grace_and_then_stops_everything(status):
    owed = NOW - GRACE + timedelta(seconds=1)
    stops_at = owed + GRACE
    before = decide(subscription(status, owed_since=owed))
    assert (before.status, before.notice, before.notice_at, before.review_at) == (
        ACTIVE, Notice.PAYMENT_FAILED, stops_at, stops_at,
    )  # fmt: skip
    after = decide(subscription(status, owed_since=owed), now=stops_at)
    assert (after.status, after.notice, after.review_at) == (STOPPED, Notice.PAYMENT_REQUIRED, None)


def test_the_oldest_debt_counts():
    debts = [subscription("past_due", number=n, owed_since=NOW - timedelta(days=n * 4)) for n in (1, 2)]
    assert decide(*debts).status is STOPPED


def test_an_invoice_that_is_open_for_a_subscription_that_never_began_is_no_debt():
    assert decide(subscription("incomplete", owed_since=NOW - timedelta(days=30))).status is ACTIVE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("needs_response", STOPPED), ("under_review", STOPPED), ("lost", STOPPED), ("won", ACTIVE),
        ("warning_needs_response", ACTIVE), ("warning_under_review", ACTIVE), ("warning_closed", ACTIVE),
    ],
)  # fmt: skip
def test_a_dispute_stops_everything_until_it_is_settled(status, expected):
    assert decide(subscription(), disputes=[dispute(status)]).status is expected


def test_a_plan_that_is_held_ends_by_time_alone():
    until = NOW + timedelta(days=8)
    held = subscription(plan="basic", held_plan_id="pro", held_until=until)
    before = decide(held)
    assert (before.plan_id, before.notice, before.review_at) == ("pro", Notice.PLAN_CHANGES, until)
    after = decide(held, now=until)
    assert (after.plan_id, after.notice, after.review_at) == ("basic", None, None)


def test_a_cancelled_plan_says_when_it_ends():
    ends = NOW + timedelta(days=8)
    found = decide(subscription(cancel_at=ends))
    assert (found.plan_id, found.notice, found.notice_at) == ("basic", Notice.PLAN_ENDS, ends)
