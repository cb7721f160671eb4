"""What the pages of the documentation show."""

from datetime import datetime

import msgspec

from admin.portal.docs.library import Entry
from admin.portal.docs.markdown import Document
from admin.portal.docs.reference import Operation


class Shelf(msgspec.Struct, frozen=True):
    """The navigation of every page: all pages, and which one this is."""

    entries: tuple[Entry, ...]
    current: Entry


class TextPage(msgspec.Struct, frozen=True):
    """A page that is Markdown; ``in_english`` is one that has no translation."""

    shelf: Shelf
    document: Document
    in_english: bool


class ReferencePage(msgspec.Struct, frozen=True):
    """Every operation of the API."""

    shelf: Shelf
    operations: list[Operation]
    api_url: str


class ExplorerPage(msgspec.Struct, frozen=True):
    """The explorer, and which version of it this is."""

    shelf: Shelf
    version: str


class Part(msgspec.Struct, frozen=True):
    """One thing that was asked whether it works."""

    title: str
    works: bool
    detail: str


class StatusPage(msgspec.Struct, frozen=True):
    """What was asked, and when."""

    shelf: Shelf
    parts: list[Part]
    asked_at: datetime
    fresh_s: int

    @property
    def works(self) -> bool:
        """Whether everything works."""
        return all(part.works for part in self.parts)
