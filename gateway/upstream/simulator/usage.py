"""The usage block of either dialect, true or in one of the ways in which upstreams get it wrong."""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.upstream.simulator.script import Script, UsageKind

BEYOND_64_BITS = 2**63


class UsageNames(msgspec.Struct, frozen=True):
    """What a dialect calls the members of its usage block."""

    input: str
    output: str
    input_details: str
    output_details: str


CHAT_USAGE = UsageNames(
    "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
)
RESPONSES_USAGE = UsageNames("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")


def usage_member(
    names: UsageNames, script: Script, *, input_tokens: int, output_tokens: int
) -> dict[str, Any]:
    """Return ``{"usage": …}`` as the script wants it, or ``{}`` when usage is to be missing."""
    kind = script.usage
    if kind is UsageKind.MISSING:
        return {}
    if kind is UsageKind.NULL:
        return {"usage": None}
    if kind is UsageKind.PARTIAL:
        return {"usage": {names.input: input_tokens}}
    if kind is UsageKind.ZERO:
        input_tokens = output_tokens = 0
    block = exact_usage(names, script, input_tokens=input_tokens, output_tokens=output_tokens)
    if kind is UsageKind.WRONG_TOTAL:
        block["total_tokens"] += 7
    elif kind in _SPOILED:
        spoil = _SPOILED[kind]
        for member in (names.input, names.output, "total_tokens"):
            block[member] = spoil(block[member])
    return {"usage": block}


def exact_usage(
    names: UsageNames, script: Script, *, input_tokens: int, output_tokens: int
) -> dict[str, Any]:
    """Return the true block; the details claim that so many of the totals were cached, audio or reasoning."""
    return {
        names.input: input_tokens,
        names.output: output_tokens,
        "total_tokens": input_tokens + output_tokens,
        names.input_details: {"cached_tokens": script.cached, "audio_tokens": script.audio},
        names.output_details: {"reasoning_tokens": script.reasoning, "audio_tokens": 0},
    }


_SPOILED: dict[UsageKind, Callable[[int], object]] = {
    UsageKind.NEGATIVE: lambda count: -count - 1,
    UsageKind.FLOAT: lambda count: count + 0.5,
    UsageKind.STRING: str,
    UsageKind.HUGE: lambda count: BEYOND_64_BITS + count,
}
