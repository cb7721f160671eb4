"""What becomes of a batch after an attempt: every row of the design's table, and the hours that matter."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from billing.stripe.errors import (
    Answer,
    StripeBusy,
    StripeConflict,
    StripeDuplicate,
    StripeFault,
    StripeForbidden,
    StripeKeyMisused,
    StripeNoCustomer,
    StripeNoMeter,
    StripeRefused,
    StripeTimestampRefused,
    StripeUnreachable,
)
from billing.stripe.model import MeterEvent
from billing.sync.model import (
    BLIND_RETRIES,
    OLDEST_EVENT,
    Batch,
    BatchState,
    backoff_ms,
    give_back,
    judge,
    payload_sha256,
    screen,
)

NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVENT = MeterEvent(
    event_name="llm_spend_idr", identifier="ng1:b:1", event_at=NOW - HOUR, customer_id="cus_1", value=7
)


def batch(*, unsure_since=None, event=EVENT, attempts=1) -> Batch:
    return Batch(
        batch_id=UUID(int=1),
        account_id=UUID(int=2),
        event=event,
        generation=1,
        idempotency_key="me:ng1:b:1",
        payload_sha256=payload_sha256(event),
        attempts=attempts,
        leased_at=NOW,
        lease_until=NOW + timedelta(minutes=2),
        unsure_since=unsure_since,
    )


def after(error, *, unsure_since=None, attempts=1, now=NOW):
    return judge(batch(unsure_since=unsure_since, attempts=attempts), error, now=now, dice=random.Random(7))


@pytest.mark.parametrize("error", [None, StripeDuplicate()])
def test_what_stripe_took_or_had_before_is_accepted(error):
    verdict = after(error, unsure_since=NOW - HOUR)
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.ACCEPTED, None)


@pytest.mark.parametrize("error", [StripeUnreachable(), StripeFault(), StripeConflict()])
def test_an_unknown_outcome_is_tried_again_and_remembered(error):
    verdict = after(error)
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.WAITING, NOW)
    assert NOW + timedelta(seconds=1) <= verdict.next_attempt_at <= NOW + timedelta(seconds=2)


def test_the_first_unknown_outcome_is_the_one_that_counts():
    assert after(StripeUnreachable(), unsure_since=NOW - HOUR).first_attempt_at == NOW - HOUR


def test_too_many_requests_prove_that_nothing_happened():
    verdict = after(StripeBusy())
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.WAITING, None)


def test_what_was_unknown_before_stays_unknown_after_a_refusal():
    assert after(StripeBusy(), unsure_since=NOW - HOUR).first_attempt_at == NOW - HOUR


def test_stripes_own_wait_is_honoured():
    verdict = after(StripeBusy(answer=Answer(status=429, retry_after_s=90)))
    assert verdict.next_attempt_at == NOW + timedelta(seconds=90)


def test_a_refused_key_leaves_the_batch_waiting():
    verdict = after(StripeForbidden())
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.WAITING, None)
    assert verdict.next_attempt_at == NOW + timedelta(minutes=5)


def test_an_unknown_customer_leaves_the_batch_waiting_for_the_next_one():
    verdict = after(StripeNoCustomer())
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.WAITING, None)


@pytest.mark.parametrize(
    "error", [StripeNoMeter(), StripeRefused(), StripeTimestampRefused(), StripeKeyMisused()]
)
def test_what_stripe_will_never_take_is_a_dead_letter(error):
    verdict = after(error)
    assert (verdict.state, verdict.first_attempt_at, verdict.last_error) == (
        BatchState.DEAD, None, error.code,
    )  # fmt: skip


def test_a_refusal_that_stripe_wants_retried_is_retried():
    assert after(StripeRefused(answer=Answer(status=400, should_retry=True))).state is BatchState.WAITING


@pytest.mark.parametrize(
    "answer", [Answer(status=500, replayed=True), Answer(status=500, should_retry=False)]
)
def test_a_failure_that_will_only_be_repeated_is_left_to_reconciling(answer):
    verdict = after(StripeFault(answer=answer))
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.UNPROVEN, NOW)


def test_twenty_hours_of_not_knowing_are_enough():
    assert after(StripeUnreachable(), unsure_since=NOW - BLIND_RETRIES).state is BatchState.UNPROVEN
    nearly = NOW - BLIND_RETRIES + timedelta(seconds=1)
    assert after(StripeUnreachable(), unsure_since=nearly).state is BatchState.WAITING


def test_a_batch_is_not_sent_blindly_after_twenty_hours():
    verdict = screen(batch(unsure_since=NOW - BLIND_RETRIES), NOW)
    assert (verdict.state, verdict.first_attempt_at) == (BatchState.UNPROVEN, NOW - BLIND_RETRIES)
    assert screen(batch(unsure_since=NOW - BLIND_RETRIES + timedelta(seconds=1)), NOW) is None


def test_a_batch_that_was_never_sent_may_be_sent_after_any_time():
    assert screen(batch(event=replaced(event_at=NOW - timedelta(days=33, hours=23))), NOW) is None


def test_usage_older_than_34_days_is_never_sent():
    old = replaced(event_at=NOW - OLDEST_EVENT)
    assert screen(batch(event=old), NOW).state is BatchState.DEAD
    assert screen(batch(event=old), NOW).last_error == "too_old"
    assert screen(batch(event=old, unsure_since=NOW - HOUR), NOW).state is BatchState.UNPROVEN


@pytest.mark.parametrize("change", [{"value": 8}, {"customer_id": "cus_2"}, {"event_at": NOW}])
def test_what_is_not_what_was_frozen_is_never_sent(change):
    leased = batch()
    changed = Batch(
        **{f: getattr(leased, f) for f in leased.__struct_fields__} | {"event": replaced(**change)}
    )
    assert screen(changed, NOW).state is BatchState.DEAD


def test_a_batch_that_is_given_back_is_as_it_was():
    verdict = give_back(batch(), NOW)
    assert (verdict.state, verdict.first_attempt_at, verdict.next_attempt_at) == (
        BatchState.WAITING, None, NOW,
    )  # fmt: skip


def test_waits_have_full_jitter_between_a_second_and_fifteen_minutes():
    dice = random.Random(3)
    waits = [backoff_ms(attempts, None, dice) for attempts in range(1, 40) for _ in range(50)]
    assert min(waits) >= 1_000
    assert max(waits) <= 900_000
    late = [backoff_ms(30, None, dice) for _ in range(300)]
    assert min(late) < 100_000
    assert max(late) > 800_000


def replaced(**change):
    return MeterEvent(**{field: getattr(EVENT, field) for field in EVENT.__struct_fields__} | change)
