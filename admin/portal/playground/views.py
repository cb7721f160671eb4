"""What the playground shows."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from admin.portal.playground.model import PlaygroundForm, Receipt, Role, Turn
from admin.portal.snippets import Snippet
from admin.web.i18n import mark
from admin.web.pages import Problem
from admin.web.relay import FAULTS
from gateway.http.error_table import ERRORS

ROLES = MappingProxyType({Role.USER: mark("User"), Role.ASSISTANT: mark("Assistant")})
ENDINGS = MappingProxyType(
    {
        "completed": mark("complete"),
        "incomplete": mark("cut at its token limit"),
        "client_gone_drained": mark("stopped by you, read to its end"),
        "client_gone_cancelled": mark("stopped by you"),
    }
)
"""The endings that are nobody's fault; every other one is told as broken off."""


class Words(msgspec.Struct, frozen=True):
    """What an error of the gateway means, and whether to try again."""

    cause: str
    retry: str | None = None


WORDS: Mapping[str, Words] = MappingProxyType(
    {
        **{code: Words(row.cause, row.retry) for code, row in ERRORS.items()},
        **{fault.code: Words((fault.__doc__ or "").split("\n\n", maxsplit=1)[0]) for fault in FAULTS},
    }
)
"""Every code that an answer can have: the gateway's, and those of the way to it."""


class Refusal(msgspec.Struct, frozen=True):
    """An answer that is none: its status, its code and its body as it came."""

    status: int
    code: str
    message: str
    body: str


class PlaygroundPage(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation and the settings, and what came of it where the page answers a form."""

    form: PlaygroundForm
    turns: list[Turn]
    models: list[str]
    code: list[Snippet]
    drains: bool
    month: "MonthLeft"
    problem: Problem | None = None
    refusal: Refusal | None = None
    receipt: "ReceiptView | None" = None
    roles: Mapping[Role, str] = ROLES
    words: Mapping[str, Words] = WORDS


class MonthLeft(msgspec.Struct, frozen=True):
    """What is used of the month; ``limit`` is ``None`` where there is none."""

    used: int
    limit: int | None


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """What a request cost, or that it is not known yet."""

    receipt: Receipt
    month: MonthLeft
    endings: Mapping[str, str] = ENDINGS


class CodePart(msgspec.Struct, frozen=True):
    """The request as code, or why there is none."""

    code: list[Snippet]
    problem: Problem | None = None
