"""What onboarding shows."""

from uuid import UUID

import msgspec

from admin.portal.snippets import Snippet
from admin.reports.model import Call
from admin.web.pages import Problem


class StartPage(msgspec.Struct, frozen=True, kw_only=True):
    """The three steps; ``key_text`` is there once, right after the key was made."""

    key_id: UUID | None
    key_shown: str | None
    key_text: str | None
    snippets: list[Snippet]
    listening: "Listening"
    problem: Problem | None = None


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the first call of a key has arrived; ``poll`` is whether to go on asking."""

    key_id: UUID | None
    call: Call | None
    month_used: int
    month_limit: int | None

    @property
    def poll(self) -> bool:
        """Whether there is a key whose call can still arrive."""
        return self.key_id is not None and self.call is None
