"""What somebody asks in the playground, and how that becomes one request of the API."""

from enum import StrEnum
from typing import Any

import msgspec

from admin.access.model import AccessError

TURNS_MAX = 16
"""More would not fit into one form; a longer conversation belongs into a program."""

MAX_OUTPUT_DEFAULT = 512
NUMBER_LENGTH_MAX = 12


class PromptRefused(AccessError):
    """Something in the conversation cannot be right."""

    code = "prompt_refused"


class Role(StrEnum):
    """Who says a message."""

    USER = "user"
    ASSISTANT = "assistant"


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Role
    text: str


class PlaygroundForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that somebody chose and wrote, as it was typed."""

    model: str = ""
    instructions: str = ""
    roles: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    temperature: str = ""
    max_output_tokens: str = str(MAX_OUTPUT_DEFAULT)
    stream: str = ""
    action: str = "send"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request that can be sent: its fields are those of ``POST /v1/responses``."""

    model: str
    turns: tuple[Turn, ...]
    instructions: str
    temperature: float | None
    max_output_tokens: int | None
    stream: bool

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that is sent, and that the code on the page sends. Nothing is stored: the page has it all."""
        body: dict[str, Any] = {"model": self.model}
        if self.instructions:
            body["instructions"] = self.instructions
        body["input"] = [{"role": turn.role.value, "content": turn.text} for turn in self.turns]
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_output_tokens is not None:
            body["max_output_tokens"] = self.max_output_tokens
        return body | {"stream": self.stream, "store": False}


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended and what it cost; an amount is an exact decimal. ``state`` is the ledger's word."""

    state: str
    end_reason: str | None
    input_tokens: int = 0
    output_tokens: int = 0
    amount: str | None = None
    currency: str | None = None
    duration_ms: int = 0
    usage_source: str | None = None

    @property
    def total_tokens(self) -> int:
        """All tokens of the request."""
        return self.input_tokens + self.output_tokens


def ask_of(form: PlaygroundForm, models: list[str]) -> Ask:
    """Read a form; ``PromptRefused`` names the field that cannot be right. The gateway judges the rest."""
    if form.model not in models:
        raise PromptRefused("This model is not offered.", param="model")
    turns = tuple(turn for turn in turns_of(form) if turn.text.strip())
    if not turns:
        raise PromptRefused("Write a message first.", param="texts")
    return Ask(
        model=form.model,
        turns=turns,
        instructions=form.instructions.strip(),
        temperature=_temperature(form.temperature),
        max_output_tokens=_whole_number(form.max_output_tokens),
        stream=bool(form.stream),
    )


def turns_of(form: PlaygroundForm) -> list[Turn]:
    """Pair the messages of a form with who says them; ``PromptRefused``."""
    if len(form.roles) != len(form.texts) or not set(form.roles) <= set(Role):
        raise PromptRefused("The messages cannot be read. Open the page again.", param="texts")
    if len(form.texts) > TURNS_MAX:
        raise PromptRefused("A conversation has up to %(most)s messages here.", param="texts", most=TURNS_MAX)
    # Forms send line ends as CR LF; a model should get what was typed.
    return [
        Turn(Role(role), text.replace("\r\n", "\n"))
        for role, text in zip(form.roles, form.texts, strict=True)
    ]


def _temperature(text: str) -> float | None:
    text = text.strip().replace(",", ".")
    if not text:
        return None
    try:
        value = float(text[:NUMBER_LENGTH_MAX])
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise PromptRefused("The temperature is a number from 0 to 1.", param="temperature")
    return value


def _whole_number(text: str) -> int | None:
    digits = text.strip()
    if not digits:
        return None
    if not digits.isascii() or not digits.isdigit() or len(digits) > NUMBER_LENGTH_MAX or int(digits) < 1:
        raise PromptRefused(
            "The most output tokens are a whole number of at least 1.", param="max_output_tokens"
        )
    return int(digits)
