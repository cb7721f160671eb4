"""How a surplus is taken back: pure decisions that the store only writes down.

A meter's event can be cancelled for 24 hours, by its identifier. Until the month's invoice is final, an event of the
opposite value brings the sum down. After that only money helps: credit for the next metered lines.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.invoices.statement import to_minor
from billing.reconcile.model import HOUR, SEEN_APART, Finding, Kind, Source
from billing.stripe.model import MeterEvent
from billing.stripe.money import STRIPE_MONEY
from billing.sync.model import BLIND_RETRIES, OLDEST_EVENT
from gateway.clock import month_end, month_of
from gateway.errors import NusagateError
from gateway.units import Currency

CANCELLABLE = timedelta(hours=24)
SECOND = timedelta(seconds=1)


class NotCorrectable(NusagateError):
    """This difference cannot be corrected, or not yet."""

    code = "not_correctable"


class Way(StrEnum):
    """What is done at Stripe."""

    CANCEL = "cancel"
    """Take one event back."""
    EVENT = "event"
    """Send one of the opposite value, in the same hour."""
    CREDIT = "credit"
    """Grant credit, because the invoice is final."""


class CorrectionState(StrEnum):
    """Where a correction stands."""

    WAITING = "waiting"
    """Nothing is known to have happened; it may be repeated as it is."""
    DONE = "done"
    FAILED = "failed"
    """Stripe refused it, or Stripe's sums show that it had no effect."""


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to take back a surplus of ``units`` of the meter."""

    correction_id: UUID
    finding_id: UUID
    account_id: UUID
    currency: Currency
    customer_id: str
    source: Source
    window_start: datetime
    units: int
    way: Way
    identifier: str | None = None
    event_at: datetime | None = None
    credit_minor: int | None = None
    idempotency_key: str
    reason: str
    actor: str
    created_at: datetime
    state: CorrectionState = CorrectionState.WAITING
    first_attempt_at: datetime | None = None
    last_attempt_at: datetime | None = None
    last_error: str | None = None
    entry_id: UUID | None = None
    ended_at: datetime | None = None

    def event(self) -> MeterEvent:
        """Return the event that brings Stripe's sum down."""
        assert self.identifier is not None
        assert self.event_at is not None
        return MeterEvent(
            event_name=STRIPE_MONEY[self.currency].event_name,
            identifier=self.identifier,
            event_at=self.event_at,
            customer_id=self.customer_id,
            value=-self.units,
        )


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the way: all as of one moment."""

    cancellable: str | None
    """The identifier of an event that may be the surplus and may still be cancelled."""
    has_final_invoice: bool
    has_draft_invoice: bool
    hours_differ: bool
    """Whether an hour of the month has a surplus of its own, which explains the invoice's."""
    month_units: int
    """What Stripe should have counted in the month, with what was made good by credit before."""


def check(finding: Finding) -> int:
    """Return the surplus of a finding; ``NotCorrectable`` where there is none."""
    if finding.resolved_at is not None:
        raise NotCorrectable("This difference is resolved.")
    if finding.kind is not Kind.SURPLUS:
        raise NotCorrectable("Only a surplus is corrected: for what is missing see `nusagate sync retry`.")
    return finding.found - finding.expected


def may_follow(finding: Finding, last: Correction, now: datetime) -> bool:
    """Tell whether the surplus was seen again so long after an attempt that this had no effect.

    ``NotCorrectable`` where nobody knows yet.
    """
    tried_at = last.last_attempt_at or last.created_at
    seen_since = finding.last_seen_at >= tried_at + SEEN_APART
    if last.state is CorrectionState.DONE:
        return seen_since
    if last.way is Way.CREDIT:
        # It changes no sum, so being seen again says nothing; whoever repeats it looks for the grant first.
        return False
    if last.first_attempt_at is None or now - last.first_attempt_at < BLIND_RETRIES:
        return False
    if not seen_since:
        raise NotCorrectable(
            "Whether Stripe has taken the last correction is unknown, and repeating it could count it twice: "
            "`nusagate reconcile run` first."
        )
    return True


def plan(
    finding: Finding, around: Surroundings, *, correction_id: UUID, reason: str, actor: str, now: datetime
) -> Correction:
    """Choose the way and write down all that Stripe will be told; ``NotCorrectable``."""
    units = check(finding)
    if finding.source is Source.INVOICE and around.hours_differ:
        raise NotCorrectable(
            "An hour of this month has a surplus of its own: correct that one, and compare again."
        )
    way = _way(finding, around, now)
    currency = Currency(finding.currency)
    is_event = way is Way.EVENT
    own = f"ngc1:{correction_id.hex}"
    return Correction(
        correction_id=correction_id,
        finding_id=finding.finding_id,
        account_id=finding.account_id,
        currency=currency,
        customer_id=finding.customer_id,
        source=finding.source,
        window_start=finding.window_start,
        units=units,
        way=way,
        identifier={Way.CANCEL: around.cancellable, Way.EVENT: own}.get(way),
        event_at=min(finding.window_start + HOUR - SECOND, now.replace(microsecond=0)) if is_event else None,
        credit_minor=_minor(around.month_units, units, currency) if way is Way.CREDIT else None,
        idempotency_key=f"{way}:{own}",
        reason=reason,
        actor=actor,
        created_at=now,
    )


def _way(finding: Finding, around: Surroundings, now: datetime) -> Way:
    if around.has_final_invoice or finding.source is Source.INVOICE:
        return Way.CREDIT
    if around.cancellable is not None:
        return Way.CANCEL
    is_open = around.has_draft_invoice or now < month_end(month_of(finding.window_start))
    return Way.EVENT if is_open and now - finding.window_start < OLDEST_EVENT else Way.CREDIT


def _minor(month_units: int, units: int, currency: Currency) -> int:
    """Return by how many minor units a surplus raises an invoice that is rounded once."""
    unit_pico = STRIPE_MONEY[currency].meter_unit_pico
    with_it, without = (month_units + units) * unit_pico, month_units * unit_pico
    return to_minor(with_it, currency) - to_minor(without, currency)
