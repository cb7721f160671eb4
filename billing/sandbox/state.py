"""All that the sandbox remembers, as one value that is written to and read from one JSON file.

Stripe's objects are kept as the plain JSON that the API answers with. What Stripe knows and never shows
(a meter event's processing, a stored answer, when an item's usage began to count) has structs of its own.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.errors import ConfigurationError

Json = dict[str, Any]

HOUR_S = 3_600
DAY_S = 86_400


class RateLimits(msgspec.Struct):
    """Requests a second; ``None`` is no limit. Stripe: 25 each in a sandbox, 1,000 meter events a second live."""

    global_per_s: int | None = None
    endpoint_per_s: int | None = None
    meter_events_per_s: int | None = None


class Settings(msgspec.Struct):
    """How this sandbox behaves where Stripe's accounts differ or its documents are vague."""

    synchronous_validation: bool = True
    """Whether v1 refuses unknown meters and customers and bad timestamps at once; else they fail later."""
    visibility_delay_s: int = 0
    """How long an accepted meter event stays out of summaries and invoices ("eventually consistent")."""
    validation_window_s: int = 10
    """Errors found after a meter event was accepted are reported together after this long."""
    finalization_grace_s: int = HOUR_S
    """How long an invoice stays a draft; Stripe allows 72 hours at most."""
    payment_retry_days: tuple[int, ...] = (3, 5, 7)
    """Days between one failed attempt to collect an invoice and the next."""
    after_last_retry: Literal["canceled", "unpaid", "past_due"] = "past_due"
    """What a subscription becomes when collecting is given up."""
    webhook_retry_delays_s: tuple[int, ...] = (5, 60, HOUR_S)
    """Waits before a delivery is tried again, on the sandbox's clock."""
    limits: RateLimits = msgspec.field(default_factory=RateLimits)


class MeterEvent(msgspec.Struct):
    """One accepted meter event; ``value`` is decimal text, times are Unix seconds."""

    event_name: str
    identifier: str
    meter: str
    customer: str
    value: str
    timestamp: int
    received_at: int
    cancelled: bool = False


class MeterError(msgspec.Struct):
    """A meter event that was accepted and then found wrong; reported when its window closes."""

    code: str
    message: str
    identifier: str
    meter: str | None
    at: int


class StoredAnswer(msgspec.Struct):
    """The answer that an idempotency key replays, and a digest of the request that it belongs to."""

    digest: str
    status: int
    body: bytes
    at: int


class Delivery(msgspec.Struct):
    """One event on its way to one destination; ``due_at`` is on the sandbox's clock."""

    id: str
    event: str
    destination: str
    due_at: int
    attempts: int = 0
    state: Literal["pending", "held", "delivered", "failed", "lost"] = "pending"
    statuses: list[int] = msgspec.field(default_factory=list)
    """What the receiver answered to each attempt; 0 where it could not be reached."""


class State(msgspec.Struct):
    """Everything."""

    objects: dict[str, dict[str, Json]] = msgspec.field(default_factory=dict)
    """Stripe's objects by kind and id, oldest first."""
    notes: dict[str, Json] = msgspec.field(default_factory=dict)
    """What the sandbox knows about an object that the API does not show, by the object's id."""
    meter_events: list[MeterEvent] = msgspec.field(default_factory=list)
    meter_errors: list[MeterError] = msgspec.field(default_factory=list)
    answers: dict[str, StoredAnswer] = msgspec.field(default_factory=dict)
    deliveries: dict[str, Delivery] = msgspec.field(default_factory=dict)
    settings: Settings = msgspec.field(default_factory=Settings)
    clock_offset_s: int = 0
    clock_stopped_at: int | None = None


def load_state(path: Path | None) -> State:
    """Read the state from its file; a new one if there is no file. ``ConfigurationError`` if it is damaged."""
    if path is None or not path.exists():
        return State()
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.DecodeError as problem:
        raise ConfigurationError(f"the Stripe sandbox's file {path} cannot be read: {problem}") from problem


def save_state(path: Path, state: State) -> None:
    """Write the state to its file."""
    replace_file(path, msgspec.json.encode(state))


def replace_file(path: Path, content: bytes) -> None:
    """Write beside a file and rename it there, so that a crash leaves the old one whole and readers see no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
