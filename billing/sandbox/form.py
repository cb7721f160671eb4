"""Stripe's v1 form encoding: ``items[0][price]=p`` means ``{"items": [{"price": "p"}]}``."""

import re
from typing import Any
from urllib.parse import parse_qsl

from billing.sandbox.refusals import ParameterRefusal

BRACKET = re.compile(r"\[([^\]]*)\]")
MAX_FIELDS = 5_000
MAX_DEPTH = 8


def decode_form(text: str) -> dict[str, Any]:
    """Read a form body or query string; every leaf is text. Refuses what is nested in two ways at once."""
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    root: dict[str, Any] = {}
    for name, value in pairs:
        _place(root, _path(name), value)
    return {name: _with_lists(value) for name, value in root.items()}


def _path(name: str) -> list[str]:
    """Split ``a[b][]`` into its steps; the empty step means "append"."""
    head, bracket, _ = name.partition("[")
    return [head, *BRACKET.findall(name)] if bracket else [head]


def _place(node: dict[str, Any], path: list[str], value: str) -> None:
    if len(path) > MAX_DEPTH:
        raise ParameterRefusal("The parameters are nested too deeply.", param=path[0])
    for step in path[:-1]:
        child = node.setdefault(step or str(len(node)), {})
        if not isinstance(child, dict):
            raise ParameterRefusal(f"Invalid nesting of parameter {path[0]}.", param=path[0])
        node = child
    node[path[-1] or str(len(node))] = value


def _with_lists(value: Any) -> Any:
    """Turn the objects whose keys are 0, 1, 2… into lists."""
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_with_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _with_lists(child) for key, child in value.items()}
