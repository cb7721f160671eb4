"""Whatever happens to a batch, Stripe counts it once: the decisions of the room against a model of Stripe.

The model knows only what Stripe documents: v1 replays the answer of an idempotency key for 24 hours, an identifier is
refused for 24 hours, and after that the same event would be counted again.
"""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from billing.reconcile.model import QUIET, SEEN_APART, Books, Doubtful, Kind, explain
from billing.stripe.errors import (
    Answer,
    StripeBusy,
    StripeDuplicate,
    StripeError,
    StripeFault,
    StripeForbidden,
    StripeUnreachable,
)
from billing.stripe.model import MeterEvent
from billing.sync.model import LEASE, Batch, BatchState, Verdict, judge, payload_sha256, screen

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class ModelStripe:
    """Counts events the way Stripe promises to, and no better."""

    def __init__(self):
        self.sums = []
        self.identifiers = {}
        self.answers = {}

    def post(self, event, key, now, *, fails_with=None, committed=False):
        """Answer a request: ``None`` or an error; ``fails_with`` is a 500 that Stripe stores for the key."""
        stored = self.answers.get(key)
        if stored is not None and now - stored[0] < DAY:
            error = stored[1]
            return StripeFault(answer=Answer(status=500, replayed=True)) if error else None
        taken = self.identifiers.get(event.identifier)
        if taken is not None and now - taken < DAY:
            return StripeDuplicate()
        if fails_with is None or committed:
            self.sums.append(event.value)
            self.identifiers[event.identifier] = now
        self.answers[key] = (now, fails_with)
        return fails_with


class OneBatch(RuleBasedStateMachine):
    """One batch, a worker that may die at any point, a network that may swallow anything, and time."""

    @initialize(value=st.integers(-1000, 1000).filter(bool), seed=st.integers(0, 2**32))
    def freeze(self, value, seed):
        self.now = START
        self.stripe = ModelStripe()
        self.dice = random.Random(seed)
        self.value = value
        self.generation = 1
        self.state = BatchState.WAITING
        self.next_attempt_at = self.now
        self.first_attempt_at = None
        self.last_attempt_at = None
        self.attempts = 0
        self.lease_until = None
        self.missed_since = None

    def event(self):
        return MeterEvent(
            event_name="llm_spend_idr", identifier=f"ng1:b:{self.generation}", event_at=START, customer_id="cus_1",
            value=self.value,
        )  # fmt: skip

    def lease(self):
        """What the claiming statement does."""
        batch = Batch(
            batch_id=UUID(int=1), account_id=UUID(int=2), event=self.event(), generation=self.generation,
            idempotency_key=f"me:{self.event().identifier}", payload_sha256=payload_sha256(self.event()),
            attempts=self.attempts + 1, leased_at=self.now, lease_until=self.now + LEASE,
            unsure_since=self.first_attempt_at,
        )  # fmt: skip
        self.state = BatchState.SENDING
        self.attempts += 1
        self.lease_until = batch.lease_until
        self.last_attempt_at = self.now
        self.first_attempt_at = self.first_attempt_at or self.now
        return batch

    def record(self, verdict: Verdict):
        """What the recording statement does."""
        self.state = verdict.state
        self.next_attempt_at = verdict.next_attempt_at
        self.first_attempt_at = verdict.first_attempt_at

    def is_due(self):
        if self.state is BatchState.SENDING and self.now >= self.lease_until:
            self.state, self.next_attempt_at = BatchState.WAITING, self.now
        return self.state is BatchState.WAITING and self.now >= self.next_attempt_at

    @rule(minutes=st.integers(1, 600))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(
        outcome=st.sampled_from(
            ["ok", "lost before", "lost after", "busy", "forbidden", "stored 500", "stored 500 with effect",
             "killed after lease", "killed after post"]
        )
    )  # fmt: skip
    @precondition(lambda self: self.is_due())
    def attempt(self, outcome):
        batch = self.lease()
        verdict = screen(batch, self.now)
        if verdict is not None:
            self.record(verdict)
            return
        if outcome == "killed after lease":
            return
        error = self.ask(batch, outcome)
        if outcome != "killed after post":
            self.record(judge(batch, error, now=self.now, dice=self.dice))

    def ask(self, batch: Batch, outcome: str) -> StripeError | None:
        before_stripe = {
            "lost before": StripeUnreachable(), "busy": StripeBusy(), "forbidden": StripeForbidden(),
        }  # fmt: skip
        if outcome in before_stripe:
            return before_stripe[outcome]
        fault = StripeFault(answer=Answer(status=500)) if outcome.startswith("stored") else None
        answer = self.stripe.post(
            batch.event, batch.idempotency_key, self.now, fails_with=fault, committed="effect" in outcome
        )
        return StripeUnreachable() if outcome == "lost after" else answer

    @rule()
    @precondition(lambda self: self.state in {BatchState.UNPROVEN, BatchState.ACCEPTED})
    def reconcile(self):
        doubtful = (Doubtful(UUID(int=1), self.value, START),) if self.state is BatchState.UNPROVEN else ()
        books = Books(
            accepted=0 if doubtful else self.value,
            doubtful=doubtful,
            busy=False,
            changed_at=self.last_attempt_at,
        )
        if not books.is_settled(self.now):
            return
        explanation = explain(books, sum(self.stripe.sums))
        assert explanation.kind is Kind.EQUAL
        if not explanation.absent:
            self.state = BatchState.CONFIRMED
        elif self.missed_since is None:
            self.missed_since = self.now
        elif self.now - self.missed_since >= SEEN_APART:
            self.generation += 1
            self.state, self.next_attempt_at = BatchState.WAITING, self.now
            self.first_attempt_at = self.missed_since = None
            self.attempts = 0

    @invariant()
    def nothing_is_counted_twice(self):
        assert self.stripe.sums in ([], [self.value])

    @invariant()
    def what_is_said_to_be_there_is_there(self):
        if self.state in {BatchState.ACCEPTED, BatchState.CONFIRMED}:
            assert self.stripe.sums == [self.value]

    @invariant()
    def what_is_said_to_be_unsent_is_unsent(self):
        if self.state is BatchState.WAITING and self.first_attempt_at is None:
            assert self.stripe.sums == []

    def teardown(self):
        """When the trouble is over, the batch arrives."""
        for _ in range(200):
            if self.state is BatchState.CONFIRMED:
                break
            self.now += max(QUIET, SEEN_APART)
            if self.is_due():
                self.attempt("ok")
            elif self.state in {BatchState.UNPROVEN, BatchState.ACCEPTED}:
                self.reconcile()
        assert self.stripe.sums == [self.value], msgspec.json.encode(vars(self.stripe)["sums"])
        assert self.state is BatchState.CONFIRMED


TestOneBatch = OneBatch.TestCase
