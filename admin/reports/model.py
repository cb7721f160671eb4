"""What reports answer."""

from datetime import datetime
from uuid import UUID

import msgspec


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
