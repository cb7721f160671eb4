"""What an adjustment is, and when there can be none."""

from uuid import UUID

import msgspec

from gateway.clock import Month
from gateway.errors import NusagateError
from gateway.units import AmountPico, Currency

AMOUNT_PICO_MAX = 9 * 10**18
"""What an entry can hold."""


class NotAdjustable(NusagateError):
    """The account's month cannot be adjusted by that."""

    code = "not_adjustable"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account stands in a month. ``spent_pico`` is what is paid by use."""

    account_id: UUID
    currency: Currency
    plan_id: str
    pays_by_use: bool
    spent_pico: AmountPico
    used_tokens: int
    returnable_tokens: int
    """The most that can be given back: of the month, and where today is counted, of today."""


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to the current month of an account: pico-currency and tokens, below zero in its favour."""

    entry_id: UUID
    amount_pico: int
    tokens: int
    reason: str
    actor: str


class Adjusted(msgspec.Struct, frozen=True, kw_only=True):
    """What an adjustment changes, or would change."""

    applied: bool
    entry_id: UUID | None
    account_id: UUID
    period: Month
    currency: Currency
    amount: str
    tokens: int
    spent_before: str
    spent_after: str
    used_tokens_before: int
    used_tokens_after: int


def check(standing: Standing, adjustment: Adjustment) -> None:
    """Refuse what would have no effect, or another than it says; ``NotAdjustable`` says what to do instead."""
    amount_pico, tokens = adjustment.amount_pico, adjustment.tokens
    if amount_pico == 0 and tokens == 0:
        raise NotAdjustable("There is nothing to adjust: name an amount, tokens, or both.")
    if abs(amount_pico) > AMOUNT_PICO_MAX:
        raise NotAdjustable("The amount is more than one entry can hold: write several.", param="amount")
    if amount_pico and not standing.pays_by_use:
        raise NotAdjustable(
            "Nothing of this account's month is paid by use, so no bill would change: "
            "`nusagate credit grant` gives it money.",
            param="amount",
        )
    if amount_pico < 0 and standing.spent_pico + amount_pico < 0:
        raise NotAdjustable(
            "The account has spent less than that this month, and a bill is never below zero: "
            "`nusagate credit grant` gives it money.",
            param="amount",
        )
    if tokens < 0 and standing.returnable_tokens + tokens < 0:
        raise NotAdjustable(
            f"At most {standing.returnable_tokens:,} tokens can be given back: no more than was used.",
            param="tokens",
        )
