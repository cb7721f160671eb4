"""What the front page shows, and the form that every page carries."""

import msgspec

from admin.portal.snippets import Snippet
from gateway.plans.model import Plan


class FrontPage(msgspec.Struct, frozen=True):
    """The plans as they are in force, and a first request in three languages."""

    plans: list[Plan]
    snippets: list[Snippet]


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The language, the theme or the zone that somebody chose, and where they were."""

    language: str = ""
    theme: str = ""
    zone: str = ""
    next: str = "/"
