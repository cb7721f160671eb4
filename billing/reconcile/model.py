"""What a difference between Stripe's sum and ours means: pure decisions.

A sum is all that Stripe shows of meter events, so the question is always the same: which of the batches that it may
or may not have make up what it has counted?
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.units import Currency

QUIET = timedelta(minutes=10)
"""Stripe's sums are eventually consistent: an hour is compared when nothing was sent for it for so long."""
SEEN_APART = timedelta(minutes=15)
"""A difference counts when it is seen again, unchanged, after this long."""
DOUBTFUL_MAX = 16
RANGE = timedelta(hours=96)
"""What one read can hold: a page of Stripe's has 100 sums at most, and four days are 96 hours."""
HOUR = timedelta(hours=1)


class Source(StrEnum):
    """Where Stripe's sum comes from."""

    SUMMARY = "summary"
    """A meter's summary of one UTC hour."""
    INVOICE = "invoice"
    """A metered line of an invoice, a month."""


class Kind(StrEnum):
    """What a comparison shows."""

    EQUAL = "equal"
    """Every accepted batch is counted, and it is clear which of the doubtful ones are."""
    MISSING = "missing"
    """Stripe has less than it accepted."""
    SURPLUS = "surplus"
    """Stripe has more than was ever sent."""
    UNCLEAR = "unclear"
    """No choice of the doubtful batches explains what Stripe has."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: a customer's usage in one currency, from ``start`` to before ``end``.

    An invoice's time may begin or end inside an hour, and batches are hours or, where it does, the parts of that one.
    """

    account_id: UUID
    currency: Currency
    customer_id: str
    source: Source
    start: datetime
    end: datetime

    @property
    def first_hour(self) -> datetime:
        """Return the hour in which it begins."""
        return self.start.replace(minute=0, second=0, microsecond=0)


class Doubtful(msgspec.Struct, frozen=True):
    """A batch that Stripe may have."""

    batch_id: UUID
    value: int
    event_at: datetime


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Our side of a place: what Stripe accepted, in its units, what it may have, and when that last changed."""

    accepted: int
    doubtful: tuple[Doubtful, ...]
    busy: bool
    """Whether something of it is on its way at the moment, or may have been counted and will be sent again."""
    changed_at: datetime | None

    def is_settled(self, now: datetime) -> bool:
        """Tell whether a comparison says anything yet."""
        return not self.busy and (self.changed_at is None or now - self.changed_at >= QUIET)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison shows, and which doubtful batches Stripe has and has not (where that is clear)."""

    kind: Kind
    present: tuple[Doubtful, ...] = ()
    absent: tuple[Doubtful, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A difference that was seen, as it is shown to an operator; ``expected`` and ``found`` are Stripe's units."""

    finding_id: UUID
    account_id: UUID
    currency: str
    customer_id: str
    source: Source
    kind: Kind
    window_start: datetime
    expected: int
    found: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolution: str | None


def explain(books: Books, found: int) -> Explanation:
    """Find out which doubtful batches make up what Stripe has counted beyond what it accepted.

    Two choices with the same sum are equally right: whichever is sent again, the total comes out the same.
    """
    doubtful = books.doubtful
    rest = found - books.accepted
    if not doubtful:
        return Explanation(kind=_of(rest))
    if len(doubtful) > DOUBTFUL_MAX:
        return Explanation(kind=Kind.UNCLEAR)
    choices: dict[int, tuple[int, ...]] = {0: ()}
    for index, batch in enumerate(doubtful):
        for total, chosen in list(choices.items()):
            choices.setdefault(total + batch.value, (*chosen, index))
    chosen_ones = choices.get(rest)
    if chosen_ones is None:
        return Explanation(kind=Kind.MISSING if rest < min(choices) else Kind.UNCLEAR)
    return Explanation(
        kind=Kind.EQUAL,
        present=tuple(doubtful[index] for index in chosen_ones),
        absent=tuple(batch for index, batch in enumerate(doubtful) if index not in chosen_ones),
    )


def ranges(hours: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Cover hours with as few reads as possible, each of at most 96 hours."""
    found: list[tuple[datetime, datetime]] = []
    for hour in sorted(hours):
        if found and hour + HOUR - found[-1][0] <= RANGE:
            found[-1] = (found[-1][0], hour + HOUR)
        else:
            found.append((hour, hour + HOUR))
    return found


def _of(rest: int) -> Kind:
    if rest == 0:
        return Kind.EQUAL
    return Kind.MISSING if rest < 0 else Kind.SURPLUS
