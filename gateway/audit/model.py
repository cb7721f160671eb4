"""What is kept of one thing that somebody did."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class Source(StrEnum):
    """Through which door somebody came."""

    CLI = "cli"
    PORTAL = "portal"
    WORKER = "worker"


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done: ``action`` is what it was done to and what was done, such as ``credit:grant``.

    ``before`` and ``after`` are JSON, as much of the object as the action may change; they hold no secret.
    """

    audit_id: UUID
    happened_at: datetime
    actor: str
    action: str
    source: Source
    account_id: UUID | None = None
    object_id: str | None = None
    reason: str | None = None
    before: msgspec.Raw | None = None
    after: msgspec.Raw | None = None
