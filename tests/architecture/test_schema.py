"""Every index of the schema says which query it serves, so that one that serves none is noticed."""

import re

INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+)")
PURPOSE = re.compile(r"^-- Serves ")


def unexplained_indexes(schema: str) -> list[str]:
    """Name the indexes whose comment, directly above, does not begin with what they serve."""
    found = []
    comment: list[str] = []
    for line in schema.splitlines():
        match = INDEX.match(line)
        if match and not (comment and PURPOSE.match(comment[0])):
            found.append(match[1])
        comment = [*comment, line] if line.startswith("--") else []
    return found


def test_every_index_names_the_query_it_serves(root):
    schema = (root / "gateway/db/schema.sql").read_text(encoding="utf-8")
    assert "CREATE INDEX" in schema
    assert unexplained_indexes(schema) == []


def test_an_index_without_a_purpose_is_found():
    assert unexplained_indexes(
        "-- Serves the list.\nCREATE INDEX good ON a (b);\nCREATE INDEX bad ON a (c);"
    ) == ["bad"]
    assert unexplained_indexes("-- Fast.\nCREATE UNIQUE INDEX vague ON a (b);") == ["vague"]
    assert unexplained_indexes("-- Serves the list.\n\nCREATE INDEX far ON a (b);") == ["far"]
