"""``expand``: the ids in an answer that the caller wants to see as whole objects."""

from copy import deepcopy
from typing import Any

from billing.sandbox.refusals import ParameterRefusal
from billing.sandbox.state import Json
from billing.sandbox.world import World

MAX_DEPTH = 4
"""Stripe's own limit."""


def expand(world: World, answer: Json, paths: list[str]) -> Json:
    """Return the answer with the ids at these dotted paths replaced; the stored objects stay as they are."""
    if not paths:
        return answer
    expanded = deepcopy(answer)
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_DEPTH:
            raise ParameterRefusal("You cannot expand more than 4 levels of a property.", param="expand")
        _expand(world, expanded, steps, path)
    return expanded


def _expand(world: World, node: Any, steps: list[str], path: str) -> None:
    """Replace the value under the first step, then go on inside it; a list is entered element by element."""
    if isinstance(node, list):
        for item in node:
            _expand(world, item, steps, path)
        return
    name, *rest = steps
    if not isinstance(node, dict) or name not in node:
        raise ParameterRefusal(f"This property cannot be expanded ({path}).", param="expand")
    if isinstance(node[name], str):
        node[name] = deepcopy(_by_id(world, node[name])) or node[name]
    if rest and node[name] is not None:
        _expand(world, node[name], rest, path)


def _by_id(world: World, identifier: str) -> Json | None:
    for table in world.state.objects.values():
        if identifier in table:
            return table[identifier]
    return None
