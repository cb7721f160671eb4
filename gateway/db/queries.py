"""Named SQL: a statement lives in ``queries.sql`` beside the room that uses it.

The format is a name, one line that says what the statement is for, and the statement::

    -- find_key
    -- The key that a digest belongs to, with all that admission needs of its account.
    SELECT …
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

NAME = re.compile(r"^-- ([a-z][a-z0-9_]*)\n(-- .+\n)+", re.MULTILINE)


@cache
def load_queries(package: str) -> Mapping[str, str]:
    """Read a room's statements by name; ``ValueError`` if two have one name or one has no purpose line."""
    text = (files(package) / "queries.sql").read_text(encoding="utf-8")
    heads = list(NAME.finditer(text))
    if text[: heads[0].start()].strip() if heads else text.strip():
        raise ValueError(f"{package}/queries.sql must begin with a name and a purpose")
    statements: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        name = head.group(1)
        if name in statements:
            raise ValueError(f"{package}/queries.sql has {name} twice")
        end = following.start() if following else len(text)
        statements[name] = text[head.end() : end].strip().removesuffix(";")
    return statements
