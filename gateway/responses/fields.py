"""Checks of single JSON values, so that every refusal names its field by path and what was expected.

A reader takes a decoded JSON value and the path of its field, and returns the value in its own type or
raises. Messages never repeat a value: it may be somebody's prompt.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from gateway.errors import InvalidValue, MissingParameter, UnknownParameter
from gateway.runtime.documents import kind_of

Value = TypeVar("Value")
Reader = Callable[[object, str], Value]

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What functions and schemas may be called; OpenAI's rule."""

NAME_CHARS_SHOWN: Final = 64
"""Unknown names are repeated to the caller up to this length."""


def wrong_type(value: object, path: str, expected: str) -> InvalidValue:
    """Say that a field has another type than it must have."""
    return InvalidValue(f"'{path}' must be {expected}, not {kind_of(value)}.", param=path)


def missing(path: str) -> MissingParameter:
    """Say that a required field is not there."""
    return MissingParameter(f"'{path}' is required.", param=path)


def unknown(name: str, parent: str = "") -> UnknownParameter:
    """Say that a field is not known."""
    path = f"{parent}.{name[:NAME_CHARS_SHOWN]}" if parent else name[:NAME_CHARS_SHOWN]
    return UnknownParameter(f"'{path}' is not a known parameter.", param=path)


def read_string(value: object, path: str) -> str:
    """Read a string of any length; the size of the body bounds it."""
    if not isinstance(value, str):
        raise wrong_type(value, path, "a string")
    return value


def read_label(value: object, path: str, *, max_chars: int, min_chars: int = 0) -> str:
    """Read a short string that is kept in the database, which cannot hold the character U+0000."""
    text = read_string(value, path)
    if not min_chars <= len(text) <= max_chars:
        raise InvalidValue(f"'{path}' must have {min_chars} to {max_chars} characters.", param=path)
    if "\0" in text:
        raise InvalidValue(f"'{path}' must not contain the character U+0000.", param=path)
    return text


def read_name(value: object, path: str) -> str:
    """Read the name of a function or of a schema."""
    name = read_string(value, path)
    if NAME_PATTERN.fullmatch(name) is None:
        raise InvalidValue(f"'{path}' must be 1 to 64 letters, digits, '_' or '-'.", param=path)
    return name


def read_boolean(value: object, path: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise wrong_type(value, path, "a boolean")
    return value


def read_integer(value: object, path: str, *, minimum: int, maximum: int) -> int:
    """Read an integer within bounds; true and 1.0 are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(value, path, "an integer")
    if not minimum <= value <= maximum:
        raise InvalidValue(f"'{path}' must be from {minimum} to {maximum}.", param=path)
    return value


def read_number(value: object, path: str, *, minimum: float, maximum: float) -> float:
    """Read a number within bounds; an integer will do, true will not."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_type(value, path, "a number")
    if not minimum <= value <= maximum:
        raise InvalidValue(f"'{path}' must be from {minimum} to {maximum}.", param=path)
    return float(value)


def read_choice(value: object, path: str, *, allowed: Collection[str]) -> str:
    """Read one of a few words."""
    if not isinstance(value, str):
        raise wrong_type(value, path, "a string")
    if value not in allowed:
        raise InvalidValue(f"'{path}' must be {one_of(allowed)}.", param=path)
    return value


def one_of(allowed: Collection[str]) -> str:
    """Write the words that a field may have, for a message."""
    quoted = [f"'{word}'" for word in allowed]
    return quoted[0] if len(quoted) == 1 else f"one of {', '.join(quoted)}"


def read_array(value: object, path: str) -> list[object]:
    """Read an array of any length; the size of the body bounds it."""
    if not isinstance(value, list):
        raise wrong_type(value, path, "an array")
    return value


def read_object(value: object, path: str, *, known: Collection[str] | None = None) -> dict[str, Any]:
    """Read an object; with ``known``, ``UnknownParameter`` names a key that is not among them."""
    if not isinstance(value, dict):
        raise wrong_type(value, path, "an object")
    if known is not None:
        for key in value:
            if key not in known:
                raise unknown(key, path)
    return value


def read_member(parent: Mapping[str, object], key: str, path: str, reader: Reader[Value]) -> Value:
    """Read a required member of the object at ``path``; null is as if absent."""
    value = parent.get(key)
    if value is None:
        raise missing(f"{path}.{key}")
    return reader(value, f"{path}.{key}")


def read_optional(parent: Mapping[str, object], key: str, path: str, reader: Reader[Value]) -> Value | None:
    """Read a member of the object at ``path`` that may be null or absent."""
    value = parent.get(key)
    return None if value is None else reader(value, f"{path}.{key}")
