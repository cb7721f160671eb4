"""Faults that tests script: what Stripe and the network between do on a bad day.

A rule names the requests, or the webhook deliveries, that it matches, how often it strikes, and what
happens to them.
"""

import random
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from gateway.errors import InvalidValue

MAX_RULES = 100
MAX_WAIT_S = 120
MAX_COPIES = 10
CERTAIN_PERCENT = 100


class FaultKind(StrEnum):
    """What happens to a request that a rule strikes."""

    COMMIT_THEN_DROP = "commit_then_drop"
    """The request takes effect and its answer is stored; the connection is cut before the answer is whole."""
    RESET = "reset"
    """The connection is cut and nothing happened."""
    REJECT = "reject"
    """``status`` and ``stripe_code`` are answered, nothing happened, nothing is stored."""
    ERROR_STORED = "error_stored"
    """A 500 is answered and stored for the key, so that every retry replays it; ``committed`` says
    whether the request took effect nonetheless."""
    SLOW_BODY = "slow_body"
    """The request takes effect; the second half of the answer's body follows ``wait_s`` later."""
    DELAY = "delay"
    """The request waits ``wait_s`` before it takes effect, its key in use meanwhile (a second use is 409)."""


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """One rule: ``path`` is a glob, ``times`` left is ``None`` for no end, a share of the matches is struck."""

    kind: FaultKind
    method: str = "POST"
    path: str = "*"
    times: int | None = 1
    share_percent: int = 100
    seed: int = 0
    skip: int = 0
    """Matching requests that are spared first."""
    status: int = 503
    stripe_code: str | None = None
    retry_after_s: int | None = None
    wait_s: float = 1.0
    committed: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing; ``InvalidValue`` names the field."""
        if not 0 <= self.share_percent <= CERTAIN_PERCENT:
            raise InvalidValue("share_percent is between 0 and 100", param="share_percent")
        if not 0 <= self.wait_s <= MAX_WAIT_S:
            raise InvalidValue(f"wait_s is between 0 and {MAX_WAIT_S}", param="wait_s")
        if self.kind is FaultKind.REJECT and not 400 <= self.status <= 599:  # noqa: PLR2004 - HTTP's errors
            raise InvalidValue("status is an HTTP error", param="status")


class FaultBook:
    """The rules in force, in the order in which they are tried."""

    def __init__(self) -> None:
        self._rules: list[tuple[Fault, random.Random]] = []

    def replace(self, rules: list[Fault]) -> None:
        """Put these rules in force instead of all others."""
        if len(rules) > MAX_RULES:
            raise InvalidValue(f"at most {MAX_RULES} rules", param="rules")
        self._rules = [(rule, random.Random(rule.seed)) for rule in rules]  # noqa: S311 - repeatable on purpose

    def rules(self) -> list[Fault]:
        """Return the rules in force."""
        return [rule for rule, _ in self._rules]

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this request, and use one of its times up."""
        for rule, dice in self._rules:
            if rule.times == 0 or rule.method not in {"*", method} or not fnmatchcase(path, rule.path):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if dice.randrange(CERTAIN_PERCENT) >= rule.share_percent:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule
        return None


class DeliveryAction(StrEnum):
    """What a rule does to a delivery."""

    DUPLICATE = "duplicate"
    LOSE = "lose"
    DELAY = "delay"
    HOLD = "hold"
    """Kept until it is released, in an order of the releaser's choice."""


class DeliveryRule(msgspec.Struct, forbid_unknown_fields=True):
    """One rule; ``event`` is a glob over event types, ``times`` left is ``None`` for no end."""

    action: DeliveryAction
    event: str = "*"
    times: int | None = 1
    copies: int = 1
    """Further copies that a duplicate makes."""
    wait_s: int = 60
    """How long a delay lasts, on the sandbox's clock."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing; ``InvalidValue`` names the field."""
        if not 0 <= self.copies <= MAX_COPIES:
            raise InvalidValue(f"copies is between 0 and {MAX_COPIES}", param="copies")
