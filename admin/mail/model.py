"""A letter, and a letter on its way."""

from datetime import datetime
from uuid import UUID

import msgspec


class Letter(msgspec.Struct, frozen=True):
    """What a mail says, as plain text."""

    subject: str
    body: str


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in the outbox."""

    mail_id: UUID
    address: str
    letter: Letter
    created_at: datetime
    attempts: int
