"""What reports answer."""

from datetime import datetime
from uuid import UUID

import msgspec

from gateway.units import AmountPico, TokenCounts


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One settled request as a page shows it; the amount is an exact decimal, the duration milliseconds."""

    request_id: UUID
    key_id: UUID | None
    model: str
    occurred_at: datetime
    input_tokens: int
    output_tokens: int
    amount: str
    currency: str
    duration_ms: int
    usage_source: str
    end_reason: str

    @property
    def total_tokens(self) -> int:
        """All tokens of the request."""
        return self.input_tokens + self.output_tokens


class CallPage(msgspec.Struct, frozen=True):
    """A page of requests, the latest first, and whether there are older ones."""

    calls: list[Call]
    has_older: bool


class CallDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One settled request, with all that says how it was counted. ``raw_usage`` is the upstream's block, as JSON."""

    request_id: UUID
    entry_id: UUID
    key_id: UUID | None
    model: str
    endpoint: str
    upstream: str | None
    end_user: str | None
    plan_id: str
    occurred_at: datetime
    counts: TokenCounts
    currency: str
    book_id: str
    amount_pico: AmountPico
    billable: bool
    usage_source: str
    usage_flaw: str | None
    end_reason: str
    raw_usage: str | None
    duration_ms: int
    first_byte_ms: int | None


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a bar, or a group's sum: ``group`` is ``None`` where smaller groups are together."""

    moment: datetime | None
    group: str | None
    currency: str
    requests: int
    input_tokens: int
    output_tokens: int
    amount_pico: AmountPico

    @property
    def total_tokens(self) -> int:
        """All tokens of the part."""
        return self.input_tokens + self.output_tokens


class Cells(msgspec.Struct, frozen=True):
    """The parts of all bars in the order of time and size, and the sums of the groups, the largest first."""

    parts: list[Cell]
    sums: list[Cell]
