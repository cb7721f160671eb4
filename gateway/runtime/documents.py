"""JSON from outside: decoded within limits, or refused with one clear error."""

from typing import Any, Final

import msgspec

from gateway.errors import InvalidJson

JSON_KINDS: Final[dict[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def decode_document(body: bytes, *, max_depth: int) -> dict[str, Any]:
    """Decode a JSON object nested at most ``max_depth`` levels; ``InvalidJson`` if it is anything else."""
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidJson(f"The body must be a JSON object, not {kind_of(document)}.")
    # A document with few brackets cannot be deep, which spares nearly every request the walk.
    if body.count(b"{") + body.count(b"[") > max_depth and _depth_exceeds(document, max_depth):
        raise _too_deep(max_depth)
    return document


def kind_of(value: object) -> str:
    """Name the JSON type of a value, with its article."""
    return JSON_KINDS.get(type(value), "something else")


def _depth_exceeds(document: dict[str, Any], max_depth: int) -> bool:
    """Tell whether arrays and objects are nested in more than ``max_depth`` levels."""
    level: list[Any] = [document]
    for _ in range(max_depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _too_deep(max_depth: int) -> InvalidJson:
    return InvalidJson(f"The body is nested deeper than {max_depth} levels.")
