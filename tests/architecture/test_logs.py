"""A line of the log says what it means to: its fields are on the allow-list, which has no field that nobody writes."""

import ast
import re

from gateway.runtime.logging import SAFE_FIELDS
from tests.architecture.conftest import Source

LEVELS = {"info", "warning", "error"}
WRITTEN_BY_ITSELF = {"error_type", "detail", "event", "level", "room", "timestamp"}
"""What ``describe`` and the logger itself put into a line."""
WORDS = re.compile(r"[a-z]+( [a-z]+)+")


def log_calls(source: Source) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and ast.unparse(node.func.value) == "log"
    ]


def fields(source: Source) -> set[str]:
    return {keyword.arg for call in log_calls(source) for keyword in call.keywords if keyword.arg is not None}


def crooked_names(source: Source) -> list[str]:
    """Events that are not plain words in one piece of text, by which a person would look for them."""
    names = [call.args[0] for call in log_calls(source)]
    return [
        ast.unparse(name)
        for name in names
        if not (
            isinstance(name, ast.Constant) and isinstance(name.value, str) and WORDS.fullmatch(name.value)
        )
    ]


def test_no_field_is_written_as_redacted(product):
    assert {one.path: unsafe for one in product if (unsafe := fields(one) - SAFE_FIELDS)} == {}


def test_the_allow_list_has_no_field_that_nobody_writes(product):
    assert set(SAFE_FIELDS) == WRITTEN_BY_ITSELF.union(*map(fields, product))


def test_events_have_names_in_plain_words(product):
    assert {one.path: crooked for one in product if (crooked := crooked_names(one))} == {}


def test_a_field_and_a_name_are_found():
    text = 'log.error("page_failed", secret=1, **describe(error))'
    source = Source("page.py", text, ast.parse(text))
    assert fields(source) == {"secret"}
    assert crooked_names(source) == ["'page_failed'"]
