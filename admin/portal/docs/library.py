"""The pages of the documentation: which there are, and how their Markdown is made for a reader's language."""

import zoneinfo
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from admin.access.model import Language
from admin.portal.docs.facts import Facts
from admin.portal.docs.markdown import escape_markdown
from admin.web.formats import Formats
from admin.web.i18n import gettext_of, mark

HERE = Path(__file__).parent
CHANGELOG = "changelog"


class Entry(msgspec.Struct, frozen=True):
    """One page: its name in the address, its title, and what it is for."""

    slug: str
    title: str
    about: str

    @property
    def path(self) -> str:
        """Where the page is."""
        return f"/docs/{self.slug}" if self.slug else "/docs"

    @property
    def markdown_path(self) -> str:
        """Where its Markdown is."""
        return f"/docs/{self.slug or 'quickstart'}.md"


WRITTEN = (
    Entry("", mark("Quick start"), mark("A first metered call in 60 seconds.")),
    Entry("endpoints", mark("Endpoints"), mark("What there is to call, and the fields that matter.")),
    Entry("streaming", mark("Streaming and usage"), mark("The events of an answer, and where its tokens are told.")),
    Entry("errors", mark("Errors"), mark("Every code, why it happens, and whether to try again.")),
    Entry("counting", mark("What is counted"), mark("How tokens are counted, and what each way to end costs.")),
    Entry("limits", mark("Limits and prices"), mark("The plans and prices as they are in force at this moment.")),
    Entry(CHANGELOG, mark("Changes"), mark("What changed, and when.")),
)  # fmt: skip
"""The pages that are Markdown."""

LIVE = (
    Entry("reference", mark("Reference"), mark("Every operation, field and example, from the OpenAPI document.")),
    Entry("explorer", mark("Explorer"), mark("The OpenAPI document, opened piece by piece in Swagger UI.")),
    Entry("status", mark("Status"), mark("Whether the gateway and its database answer at this moment.")),
)  # fmt: skip
"""The pages that have more than text."""


def entry_of(slug: str) -> Entry:
    """Return a page by its name; ``StopIteration`` where there is none."""
    return next(entry for entry in (*WRITTEN, *LIVE) if entry.slug == slug)


def write_markdown(language: Language, zone: zoneinfo.ZoneInfo, slug: str, facts: Facts) -> str:
    """Write the Markdown of a page with the facts of this moment; the changes are told in English."""
    if slug == CHANGELOG:
        return (HERE / "CHANGELOG.md").read_text(encoding="utf-8")
    name = f"{language.value}/{slug or 'quickstart'}.md"
    return _environment(language, zone).get_template(name).render(facts=facts)


@cache
def _environment(language: Language, zone: zoneinfo.ZoneInfo) -> Environment:
    formats = Formats(language, zone)
    environment = Environment(
        loader=FileSystemLoader(HERE / "text"),
        # What is written is Markdown; values from outside go through the filter ``text``.
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        text=escape_markdown,
        number=formats.number,
        price=formats.price,
        day=formats.day,
        say=gettext_of(language),
    )
    return environment
