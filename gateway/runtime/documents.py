"""JSON from outside: decoded within limits, or refused with one clear error."""

from typing import Any, Final

import msgspec

from gateway.errors import InvalidJson

VALUES_MAX: Final = 300_000
"""A document has no more values than this: to read them takes time in which nobody else is served, whatever their bytes."""

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
    """Decode a JSON object of at most ``max_depth`` levels and ``VALUES_MAX`` values; ``InvalidJson`` if it is anything else."""
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidJson(f"The body must be a JSON object, not {kind_of(document)}.")
    # A document with few brackets cannot be deep, nor a short one wide, which spares nearly every request the walk.
    if body.count(b"{") + body.count(b"[") > max_depth or len(body) > VALUES_MAX:
        _check_shape(document, max_depth)
    return document


def kind_of(value: object) -> str:
    """Name the JSON type of a value, with its article."""
    return JSON_KINDS.get(type(value), "something else")


def _check_shape(document: dict[str, Any], max_depth: int) -> None:
    """Refuse arrays and objects that are nested in more than ``max_depth`` levels or have too many values in all."""
    level: list[Any] = [document]
    values = 0
    for _ in range(max_depth):
        values += sum(map(len, level))
        if values > VALUES_MAX:
            raise InvalidJson(f"The body has more than {VALUES_MAX:,} values.")
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise _too_deep(max_depth)


def _too_deep(max_depth: int) -> InvalidJson:
    return InvalidJson(f"The body is nested deeper than {max_depth} levels.")
