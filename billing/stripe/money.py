"""What Stripe counts money in, written down for each currency, because no library gets all of it right.

Minor units are those of https://docs.stripe.com/currencies: IDR has **two** decimals there (Rp 1 is 100), and none in
CLDR. A meter counts in a unit of our own choice, small enough that nothing of a month is lost below it and large
enough that a month's sum stays exact in the floating-point number of Stripe's summaries (2**53).
"""

from decimal import Decimal

import msgspec

from gateway.units import PICO_DIGITS, Currency


class StripeMoney(msgspec.Struct, frozen=True, kw_only=True):
    """How one currency is written at Stripe."""

    minor_exponent: int
    """Decimals of a minor unit: 2 means that 100 is one unit of the currency."""
    meter_exponent: int
    """Decimals of what our meter counts: 6 is micro, 3 is milli."""
    event_name: str
    """The event name of the currency's spend meter."""

    @property
    def meter_unit_pico(self) -> int:
        """Return one unit of the meter in pico-currency."""
        return int(10 ** (PICO_DIGITS - self.meter_exponent))

    def whole_units_pico(self, amount_pico: int) -> int:
        """Return what of an amount is whole units of the meter, in pico-currency; what is below one is carried on."""
        return amount_pico - amount_pico % self.meter_unit_pico

    @property
    def unit_amount_decimal(self) -> str:
        """Return the price of one unit of the meter in minor units, as a Stripe price takes it."""
        return f"{Decimal(10) ** (self.minor_exponent - self.meter_exponent):f}"


STRIPE_MONEY = {
    Currency.USD: StripeMoney(minor_exponent=2, meter_exponent=6, event_name="llm_spend_usd"),
    Currency.IDR: StripeMoney(minor_exponent=2, meter_exponent=3, event_name="llm_spend_idr"),
}
"""Every currency that price books exist in."""
