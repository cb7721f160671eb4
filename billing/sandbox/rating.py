"""What a quantity costs: unit amounts, graduated tiers, and parts of a period. Pure functions.

Everything is exact until the line, where minor units are rounded once, half away from zero.
"""

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from billing.sandbox.state import Json


class Rated(msgspec.Struct, frozen=True):
    """One line's worth: how many units at which price, and the amount in minor units."""

    quantity: Decimal
    unit_amount_decimal: str | None
    amount: int
    tier: int = 0
    """Which tier this is, from 1; 0 for a price without tiers."""


def to_minor_units(exact: Decimal) -> int:
    """Round minor units, half away from zero."""
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def rate(price: Json, tiers: list[Json], quantity: Decimal) -> list[Rated]:
    """Rate a quantity; one row, or one for each tier that it reaches. Below zero counts as zero, as at Stripe."""
    quantity = max(quantity, Decimal(0))
    if price["billing_scheme"] == "per_unit":
        exact = Decimal(price["unit_amount_decimal"])
        return [Rated(quantity, price["unit_amount_decimal"], to_minor_units(quantity * exact))]
    return _rate_graduated(tiers, quantity)


def _rate_graduated(tiers: list[Json], quantity: Decimal) -> list[Rated]:
    rows, below = [], Decimal(0)
    for number, tier in enumerate(tiers, start=1):
        bound = Decimal("Infinity") if tier["up_to"] is None else Decimal(tier["up_to"])
        inside = min(quantity, bound) - below
        if inside < 0 or (inside == 0 and number > 1):
            break
        unit, flat = tier["unit_amount_decimal"] or "0", tier["flat_amount_decimal"] or "0"
        rows.append(Rated(inside, unit, to_minor_units(inside * Decimal(unit) + Decimal(flat)), number))
        below = bound
    return rows


def share_of(amount: int, part_s: int, whole_s: int) -> int:
    """Return the part of an amount that belongs to a part of its time, both in seconds; half is rounded up."""
    if whole_s == 0:
        return 0
    return (2 * amount * part_s + whole_s) // (2 * whole_s)
