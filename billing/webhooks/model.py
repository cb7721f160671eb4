"""Events as they come in, and the one object that each is about: only that is remembered, because it is fetched anew."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from gateway.errors import NusagateError

RETRY_FIRST_S = 5
RETRY_MAX_S = 3_600
ATTEMPTS_MAX = 80
"""Three days of hourly attempts, as long as Stripe itself delivers."""
DOUBLINGS_MAX = 10


class Form(StrEnum):
    """How Stripe writes an event: with the object as it was, or with a reference to it."""

    SNAPSHOT = "snapshot"
    THIN = "thin"


class SubjectKind(StrEnum):
    """What an event can be about; for each there is one reducer."""

    CHECKOUT = "checkout"
    SUBSCRIPTION = "subscription"
    INVOICE = "invoice"
    CUSTOMER = "customer"
    DISPUTE = "dispute"
    METER_ERROR = "meter_error"


class Subject(msgspec.Struct, frozen=True):
    """One object at Stripe."""

    kind: SubjectKind
    id: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was signed by Stripe; no ``subject`` means that there is nothing to do."""

    event_id: str
    form: Form
    type: str
    subject: Subject | None
    created_at: datetime
    payload: bytes


class WaitingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was taken to be worked off."""

    event_id: str
    type: str
    subject: Subject
    attempts: int


class MalformedEvent(NusagateError):
    """The body is signed by Stripe and is no event that can be read."""

    code = "webhook_malformed"


TYPES: dict[str, SubjectKind] = {
    "checkout.session.completed": SubjectKind.CHECKOUT,
    "checkout.session.async_payment_succeeded": SubjectKind.CHECKOUT,
    "checkout.session.async_payment_failed": SubjectKind.CHECKOUT,
    "checkout.session.expired": SubjectKind.CHECKOUT,
    "customer.subscription.created": SubjectKind.SUBSCRIPTION,
    "customer.subscription.updated": SubjectKind.SUBSCRIPTION,
    "customer.subscription.deleted": SubjectKind.SUBSCRIPTION,
    "customer.subscription.paused": SubjectKind.SUBSCRIPTION,
    "customer.subscription.resumed": SubjectKind.SUBSCRIPTION,
    "invoice.created": SubjectKind.INVOICE,
    "invoice.updated": SubjectKind.INVOICE,
    "invoice.deleted": SubjectKind.INVOICE,
    "invoice.finalized": SubjectKind.INVOICE,
    "invoice.finalization_failed": SubjectKind.INVOICE,
    "invoice.paid": SubjectKind.INVOICE,
    "invoice.payment_failed": SubjectKind.INVOICE,
    "invoice.payment_action_required": SubjectKind.INVOICE,
    "invoice.overdue": SubjectKind.INVOICE,
    "invoice.voided": SubjectKind.INVOICE,
    "invoice.marked_uncollectible": SubjectKind.INVOICE,
    "customer.updated": SubjectKind.CUSTOMER,
    "customer.deleted": SubjectKind.CUSTOMER,
    "charge.dispute.created": SubjectKind.DISPUTE,
    "charge.dispute.updated": SubjectKind.DISPUTE,
    "charge.dispute.closed": SubjectKind.DISPUTE,
    "charge.dispute.funds_withdrawn": SubjectKind.DISPUTE,
    "charge.dispute.funds_reinstated": SubjectKind.DISPUTE,
}
"""The types that ask for something; every other one is kept and left alone. An endpoint should ask for these."""

THIN_ONLY = frozenset({"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"})
"""Errors of meters come as thin events only, and what they say is in the event itself."""
THIN_PREFIX = "v1."


class _Data(msgspec.Struct, frozen=True):
    object: dict[str, Any]


class _Snapshot(msgspec.Struct, frozen=True):
    id: str
    type: str
    created: int
    data: _Data


class _Related(msgspec.Struct, frozen=True):
    id: str


class _Thin(msgspec.Struct, frozen=True):
    id: str
    type: str
    created: datetime
    related_object: _Related | None = None


def read_event(body: bytes, form: Form) -> Event:
    """Read an event whose signature was proved; ``MalformedEvent`` if it has not the form of its endpoint."""
    try:
        return _read_snapshot(body) if form is Form.SNAPSHOT else _read_thin(body)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise MalformedEvent(f"The body is no {form} event: {error}") from error


def retry_after_s(attempts: int) -> int:
    """Return how many seconds an event waits after so many attempts: 5 s, doubling to an hour."""
    return min(RETRY_MAX_S, RETRY_FIRST_S << min(attempts - 1, DOUBLINGS_MAX))


def _read_snapshot(body: bytes) -> Event:
    raw = msgspec.json.decode(body, type=_Snapshot)
    return Event(
        event_id=raw.id,
        form=Form.SNAPSHOT,
        type=raw.type,
        subject=_subject(raw.type, raw.data.object.get("id")),
        created_at=datetime.fromtimestamp(raw.created, UTC),
        payload=body,
    )


def _read_thin(body: bytes) -> Event:
    raw = msgspec.json.decode(body, type=_Thin)
    if raw.type in THIN_ONLY:
        subject: Subject | None = Subject(SubjectKind.METER_ERROR, raw.id)
    else:
        related = raw.related_object.id if raw.related_object else None
        subject = _subject(raw.type.removeprefix(THIN_PREFIX), related)
    return Event(
        event_id=raw.id,
        form=Form.THIN,
        type=raw.type,
        subject=subject,
        created_at=raw.created.astimezone(UTC),
        payload=body,
    )


def _subject(event_type: str, object_id: object) -> Subject | None:
    kind = TYPES.get(event_type)
    return Subject(kind, object_id) if kind is not None and isinstance(object_id, str) else None
