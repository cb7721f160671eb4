"""The directive ``[[sim key=value ...]]`` in a prompt, with which a request says how it wants to be treated."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.errors import InvalidValue

DIRECTIVE = re.compile(r"\[\[sim\b([^\]]*)\]\]")
OUTPUT_MAX_TOKENS = 100_000
DELAY_MAX_MS = 120_000
BIG_LINE_MAX_BYTES = 64 * 1024 * 1024

Count = Annotated[int, Meta(ge=0, le=2**40)]
After = Annotated[int, Meta(ge=0, le=OUTPUT_MAX_TOKENS)]
Milliseconds = Annotated[int, Meta(ge=0, le=DELAY_MAX_MS)]


class Newline(StrEnum):
    """How lines of an event stream end."""

    LF = "lf"
    CRLF = "crlf"
    CR = "cr"

    @property
    def text(self) -> bytes:
        """The bytes of one line end."""
        return {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[self.value]


class UsageKind(StrEnum):
    """What the usage block looks like; only ``exact`` is the truth."""

    EXACT = "exact"
    MISSING = "missing"
    ZERO = "zero"
    NULL = "null"
    NEGATIVE = "negative"
    FLOAT = "float"
    STRING = "string"
    HUGE = "huge"
    PARTIAL = "partial"
    WRONG_TOTAL = "wrong_total"


class BodyKind(StrEnum):
    """What is wrong with the body."""

    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    GZIP = "gzip"


class FaultKind(StrEnum):
    """What happens instead of the rest of the answer."""

    ERROR = "error"
    RESET = "reset"
    HANG = "hang"


class Fault(msgspec.Struct, frozen=True):
    """An answer that ends badly after so many tokens."""

    kind: FaultKind
    after_tokens: int


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a prompt can ask of the simulator; the defaults are a healthy upstream in no hurry."""

    output: Annotated[int, Meta(ge=0, le=OUTPUT_MAX_TOKENS)] | None = None
    delay_ms: Milliseconds = 0
    pace_ms: Milliseconds = 0
    chunk_tokens: Annotated[int, Meta(ge=1, le=OUTPUT_MAX_TOKENS)] = 1
    split_bytes: Annotated[int, Meta(ge=1, le=BIG_LINE_MAX_BYTES)] | None = None
    newline: Newline = Newline.LF
    usage: UsageKind = UsageKind.EXACT
    input_tokens: Count | None = None
    cached: Count = 0
    reasoning: Count = 0
    audio: Count = 0
    status: Annotated[int, Meta(ge=300, le=599)] | None = None
    error_after: After | None = None
    reset_after: After | None = None
    hang_after: After | None = None
    done: Annotated[str, Meta(pattern="^missing$")] | None = None
    comments: bool = False
    body: BodyKind | None = None
    big_line: Annotated[int, Meta(ge=1, le=BIG_LINE_MAX_BYTES)] | None = None
    tool: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    finish: Annotated[str, Meta(pattern="^length$")] | None = None

    @property
    def fault(self) -> Fault | None:
        """The fault that comes first, if any was asked for."""
        asked = (
            (FaultKind.ERROR, self.error_after),
            (FaultKind.RESET, self.reset_after),
            (FaultKind.HANG, self.hang_after),
        )
        faults = [Fault(kind, after) for kind, after in asked if after is not None]
        return min(faults, key=lambda fault: fault.after_tokens, default=None)


def parse_script(text: str) -> Script:
    """Read all directives in a text; ``InvalidValue`` naming the key that is unknown or has a bad value."""
    settings = dict(_settings(text))
    if unknown := settings.keys() - set(Script.__struct_fields__):
        raise InvalidValue(f"sim directive: {min(unknown)} is not a key")
    try:
        return msgspec.convert(settings, Script, strict=False)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise InvalidValue(f"sim directive{path.removesuffix('`')}: {what}") from error


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of every directive, later ones last."""
    for directive in DIRECTIVE.findall(text):
        for word in directive.split():
            key, equals, value = word.partition("=")
            if not equals:
                raise InvalidValue(f"sim directive: {key} has no value")
            yield key, value
