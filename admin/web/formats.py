"""Numbers, money and moments as a reader of a language expects them; exact, and never a float near tokens or money."""

import zoneinfo
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import NumberPattern, format_compact_decimal, format_decimal, format_percent, parse_pattern
from markupsafe import Markup

from admin.access.model import Language
from admin.web.visitor import Zone
from billing.stripe.money import STRIPE_MONEY
from gateway.clock import format_utc
from gateway.units import PICO_DIGITS, AmountPico, Currency, format_amount

SIGNS = {Currency.IDR: "Rp", Currency.USD: "US$"}
HUNDRED = 100
TWO = 2
LESS_THAN_A_MINUTE = timedelta(minutes=1)


class Formats:
    """Writes values in one language. Zones: UTC, and the zone of the business beside it."""

    def __init__(self, language: Language, zone: zoneinfo.ZoneInfo) -> None:
        self._locale = locale_of(language)
        self._zone = zone
        symbols = self._locale.number_symbols["latn"]
        self._symbols = str.maketrans({",": symbols["group"], ".": symbols["decimal"]})

    def number(self, value: int | None) -> str:
        """Write a whole number, ``7,412``; a dash for nothing."""
        return "-" if value is None else f"{value:,}".translate(self._symbols)

    def compact(self, value: int) -> str:
        """Write about how much a number is, for an axis: ``1.5M``, ``20K``."""
        return format_compact_decimal(value, format_type="short", locale=self._locale, fraction_digits=1)

    def percent(self, used: int, limit: int) -> str:
        """Write a share in whole percents, rounded down, so that 100 % is only said when it is reached."""
        share = Decimal(percent_of(used, limit)).scaleb(-2)
        return format_percent(share, locale=self._locale)

    def share(self, part: int, whole: int) -> str:
        """Write which part of a whole something is, to the nearest tenth of a percent; a dash for nothing."""
        if whole == 0:
            return "-"
        tenths = (part * HUNDRED * 20 + whole) // (2 * whole)
        return format_percent(Decimal(tenths).scaleb(-3), format="0.0%", locale=self._locale)

    def money(self, amount: str, currency: str) -> str:
        """Write an exact amount of the ledger with all its digits, ``Rp 0.0225``."""
        return self._signed(Decimal(amount), currency, "#,##0.############")

    def minor(self, amount_minor: int, currency: str, *, brief: bool = False) -> str:
        """Write an amount in Stripe's minor units as an invoice does, ``Rp 9,999.00``; or briefly, ``Rp 9,999``."""
        exponent = STRIPE_MONEY[Currency(currency)].minor_exponent
        value = Decimal(amount_minor).scaleb(-exponent)
        decimals = 0 if brief and value == value.to_integral_value() else exponent
        return self._signed(value, currency, f"#,##0.{'0' * decimals}" if decimals else "#,##0")

    def amount(self, amount_pico: int, currency: str, decimals: int = 0) -> str:
        """Write an exact amount in pico-currency with at least so many decimals, so that a column of them is even."""
        value = Decimal(amount_pico).scaleb(-PICO_DIGITS)
        return self._signed(value, currency, f"#,##0.{'0' * decimals}{'#' * (PICO_DIGITS - decimals)}")

    def price(self, amount_micro: int, currency: str) -> str:
        """Write a price given in micro-units, ``Rp 9,999``."""
        return self.money(str(Decimal(amount_micro).scaleb(-6)), currency)

    def day(self, moment: datetime) -> str:
        """Write a UTC day, ``1 Dec 2026``."""
        return format_date(moment.astimezone(UTC), format="d MMM y", locale=self._locale)

    def month(self, moment: datetime) -> str:
        """Write a UTC month, ``December 2026``."""
        return format_date(moment.astimezone(UTC), format="LLLL y", locale=self._locale)

    def short_day(self, moment: datetime) -> str:
        """Write a UTC day without its year, ``1 Dec``."""
        return format_date(moment.astimezone(UTC), format="d MMM", locale=self._locale)

    def hour(self, moment: datetime) -> str:
        """Write a UTC hour, ``05:00``."""
        return f"{moment.astimezone(UTC):%H:%M}"

    def here(self, moment: datetime) -> str:
        """Write the time of day of a moment in the zone of the business, ``07:00 WIB``."""
        local = moment.astimezone(self._zone)
        return f"{local:%H:%M} {local.tzname()}"

    def moment(self, moment: datetime, zone: Zone = Zone.BROWSER) -> Markup:
        """Write a moment in the zone that the reader chose; for the browser's own, in UTC for it to rewrite."""
        utc = f"{self._utc(moment, 'd MMM y, HH:mm')} UTC"
        said, mark = utc, Markup(" data-local") if zone is Zone.BROWSER else ""
        if zone is Zone.BUSINESS:
            local = moment.astimezone(self._zone)
            said = f"{format_datetime(local, 'd MMM y, HH:mm', locale=self._locale)} {local.tzname()}"
        return Markup('<time datetime="{}"{} title="{}">{}</time>').format(
            format_utc(moment), mark, utc, said
        )

    def ago(self, moment: datetime, now: datetime) -> Markup:
        """Write how long ago something was, with the moment itself in the title."""
        length = now - moment
        said = format_timedelta(
            -max(length, LESS_THAN_A_MINUTE), granularity="minute", add_direction=True, locale=self._locale
        )
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            format_utc(moment), f"{self._utc(moment, 'd MMM y, HH:mm')} UTC", said
        )

    def reset(self, moment: datetime) -> Markup:
        """Write when a limit resets, in UTC and in the zone of the business: ``1 Dec 00:00 UTC (07:00 WIB)``."""
        local = moment.astimezone(self._zone)
        here = self.here(moment)
        if local.date() != moment.astimezone(UTC).date():
            here = f"{format_date(local, format='d MMM', locale=self._locale)} {here}"
        return Markup('<time datetime="{}">{}</time>').format(
            format_utc(moment), f"{self._utc(moment, 'd MMM HH:mm')} UTC ({here})"
        )

    def _signed(self, value: Decimal, currency: str, pattern: str) -> str:
        written = format_decimal(abs(value), format=_parsed(pattern), locale=self._locale)
        return f"{'-' if value < 0 else ''}{SIGNS[Currency(currency)]} {written}"

    def _utc(self, moment: datetime, pattern: str) -> str:
        return format_datetime(moment.astimezone(UTC), format=pattern, locale=self._locale)


@cache
def _parsed(pattern: str) -> NumberPattern:
    """Parse a pattern once: a page of a year writes some hundred amounts."""
    return parse_pattern(pattern)


@cache
def locale_of(language: Language) -> Locale:
    """Return Babel's locale of a language."""
    return Locale.parse(language.value)


def decimals_of(amounts_pico: Iterable[int]) -> int:
    """Return how many decimals the longest of some exact amounts has, at least the two that money has."""
    return max((_decimals(amount) for amount in amounts_pico), default=TWO)


def _decimals(amount_pico: int) -> int:
    _, _, rest = format_amount(AmountPico(amount_pico)).partition(".")
    return max(TWO, len(rest))


def percent_of(used: int, limit: int) -> int:
    """Return a share in whole percents from 0 to 100, rounded down; all of nothing is used up."""
    return HUNDRED if limit == 0 else min(HUNDRED, used * HUNDRED // limit)
