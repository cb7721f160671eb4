"""What one request ended as, in the words that the ledger keeps for ever."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec

from gateway.clock import Month, format_utc, month_end, month_of, month_start
from gateway.units import AmountPico, TokenCounts

JSON_NULL = msgspec.Raw(b"null")
"""Raw JSON that is not there: a field that is raw or ``None`` could be written, but not be read again."""


class EndReason(StrEnum):
    """The ways in which a request can end; there is no other."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    CLIENT_GONE_DRAINED = "client_gone_drained"
    CLIENT_GONE_CANCELLED = "client_gone_cancelled"
    DRAINED_AT_SHUTDOWN = "drained_at_shutdown"
    GATEWAY_CRASH = "gateway_crash"


class UsageSource(StrEnum):
    """Where an entry's tokens come from."""

    UPSTREAM = "upstream"
    """The upstream's final usage block, to the token."""
    PARTIAL = "partial"
    """The upstream's last word before the request was cut short."""
    ESTIMATED = "estimated"
    """Our own estimate, because the upstream said nothing that could be used."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is charged: its tokens, and how we know them."""

    counts: TokenCounts
    source: UsageSource
    flaw: str | None = None
    raw_usage: Any = None


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that the client asked to keep; it commits with its entry, or not at all."""

    response_id: str
    previous_response_id: str | None
    keep_days: int
    input_items: msgspec.Raw
    response: msgspec.Raw


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one request, as one row of a settling batch; ``released`` means that nothing was served.

    Durations are milliseconds, the amount is pico-currency. ``raw_usage`` is the upstream's block as it came.
    ``kept_…`` is an answer that the client asked to keep, and ``replay_body`` the answer to repetitions of a request
    with the Idempotency-Key ``replay_key``; both commit with the entry.
    """

    request_id: UUID
    account_id: UUID
    entry_id: UUID
    released: bool
    end_reason: EndReason
    upstream: str | None
    duration_ms: int
    first_byte_ms: int | None = None
    input_text_tokens: int = 0
    input_cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_text_tokens: int = 0
    output_reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    amount_pico: AmountPico = AmountPico(0)
    usage_source: UsageSource | None = None
    usage_flaw: str | None = None
    raw_usage: Any = None
    kept_id: str | None = None
    kept_previous_id: str | None = None
    kept_days: int | None = None
    kept_input: msgspec.Raw = JSON_NULL
    kept_response: msgspec.Raw = JSON_NULL
    replay_key: str | None = None
    replay_body: str | None = None


class StaleIntent(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was admitted by a gateway which has fallen silent, as its last checkpoint tells it."""

    request_id: UUID
    account_id: UUID
    model: str
    book_id: str
    upstream: str | None
    input_tokens: int
    reserved_tokens: int
    delivered_bytes: int
    age_ms: int


class Heartbeat(msgspec.Struct, frozen=True):
    """A sign of life of one request: how many UTF-8 bytes were delivered, and by which upstream."""

    request_id: UUID
    delivered_bytes: int
    upstream: str | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger entry as it is exported: tokens as the upstream counts them, the amount as an exact decimal."""

    entry_id: UUID
    kind: str
    request_id: str
    account_id: UUID
    key_id: UUID | None
    model: str
    endpoint: str
    upstream: str | None
    user: str | None
    plan: str
    period: str
    admitted_at: str
    settled_at: str
    input_tokens: int
    input_cached_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    total_tokens: int
    usage_source: str
    end_reason: str
    currency: str
    amount: str
    amount_pico: int
    price_book: str


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a usage view; ``group`` is the model, key, user, status, day or hour that it sums.

    It is ``None`` where the end users who used least are together.
    """

    group: str | None
    requests: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    currency: str
    amount: str


class InvariantCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one invariant holds, and how many rows break it."""

    invariant: str
    ok: bool
    violations: int
    detail: str


class Span(msgspec.Struct, frozen=True):
    """A part of all time, from ``start`` up to and without ``end``; without one it has no such bound."""

    start: datetime | None
    end: datetime | None

    @property
    def bounds(self) -> tuple[str, str]:
        """Write both ends as Postgres reads moments."""
        return (
            "-infinity" if self.start is None else format_utc(self.start),
            "infinity" if self.end is None else format_utc(self.end),
        )

    def __str__(self) -> str:
        """Name the month, or what is before, between or after months."""
        if self.start is None:
            return f"before {month_of(self.end)}" if self.end else "all time"
        first = month_of(self.start)
        if self.end is None:
            return f"from {first}"
        return first if self.end == month_end(first) else f"{first} to {month_of(self.end)}"


def span_of(month: Month) -> Span:
    """Return the span of a month; ``ValueError`` if the text is not ``YYYY-MM``."""
    return Span(month_start(month), month_end(month))


def divide_time(months: Iterable[Month]) -> list[Span]:
    """Cut all of time into these months and what is before, between and after them, so that nothing falls outside."""
    cuts = sorted({cut for month in months for cut in (month_start(month), month_end(month))})
    return [Span(start, end) for start, end in pairwise([None, *cuts, None])]
