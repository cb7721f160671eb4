"""What the pages of ``nusagate dev`` show."""

import msgspec
from markupsafe import Markup, escape

from admin.mail.model import Mail


class MailRow(msgspec.Struct, frozen=True, kw_only=True):
    """A letter with its links made into links."""

    mail: Mail
    body: Markup


class MailPage(msgspec.Struct, frozen=True):
    """The latest letters."""

    mails: list[MailRow]


class Components(msgspec.Struct, frozen=True):
    """The page of components needs nothing."""


def linked(text: str, own: str) -> Markup:
    """Escape a text and make the lines that are an address of ours into links."""
    lines = []
    for line in text.splitlines():
        shown = escape(line)
        lines.append(
            Markup('<a href="{}">{}</a>').format(line, shown) if line.startswith(f"{own}/") else shown
        )
    return Markup("\n").join(lines)
