"""JSON on its way into a ``jsonb`` value, which takes everything that JSON can say but one character."""

import re

NUL_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""The escape of U+0000 in JSON text, and the escaped backslashes before it, which are not part of it."""


def jsonb_text(document: bytes) -> str:
    """Return JSON text that Postgres takes: it has no U+0000, so U+FFFD stands in its place."""
    text = document.decode()
    return NUL_ESCAPE.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
