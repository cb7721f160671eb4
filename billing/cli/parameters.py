"""What commands of this room are given: an amount, a reason."""

from decimal import Decimal, InvalidOperation
from typing import Any

import rich_click as click

from gateway.errors import InvalidValue
from gateway.plans.model import LIMIT_MAX
from gateway.units import MICRO_PER_UNIT

REASON_MAX = 500
DRY_RUN = "This was a dry run: nothing is written without --apply."


class AmountType(click.ParamType[int]):
    """An amount of the account's currency, with six decimals at most; in micro-currency from here on."""

    name = "amount"

    def __init__(self, *, signed: bool) -> None:
        self._least = -LIMIT_MAX if signed else 0

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text of an option."""
        try:
            micro = Decimal(value) * MICRO_PER_UNIT
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount like 50000 or 4.50.", param, ctx)
        if (
            not micro.is_finite()
            or micro != micro.to_integral_value()
            or not self._least <= micro <= LIMIT_MAX
        ):
            self.fail(f"{value!r} is not an amount like 50000 or 4.50.", param, ctx)
        return int(micro)


AMOUNT_TYPE = AmountType(signed=False)
SIGNED_AMOUNT_TYPE = AmountType(signed=True)


def reason_text(text: str) -> str:
    """Return the reason of a decision; ``InvalidValue`` for none, or a long one."""
    if not 1 <= len(text.strip()) <= REASON_MAX:
        raise InvalidValue(f"--reason must have 1 to {REASON_MAX} characters.", param="reason")
    return text.strip()
