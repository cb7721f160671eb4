"""The kinds of value that options take, each with a refusal that says what would be right."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import rich_click as click

from gateway.clock import Month, month_of, month_start
from gateway.units import Currency

DURATION = re.compile(r"(\d{1,6})([smhd])")
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class DurationType(click.ParamType[timedelta]):
    """A length of time like ``90s``, ``15m``, ``1h`` or ``30d``; ``now`` is none at all."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text of an option."""
        if isinstance(value, timedelta):
            return value
        if value in {"now", "0"}:
            return timedelta(0)
        match = DURATION.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a length of time like 90s, 15m, 1h or 30d.", param, ctx)
        return timedelta(seconds=int(match[1]) * UNIT_S[match[2]])


class LimitType(click.ParamType[int | str]):
    """A limit: a number, ``none`` for no limit, or ``plan`` for what the plan says."""

    name = "number|none|plan"
    PLAN = "plan"
    NONE = "none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Read the text of an option; ``none`` and ``plan`` stay as they are."""
        if isinstance(value, int) or value in {self.PLAN, self.NONE}:
            return value  # type: ignore[no-any-return]
        digits = value.replace("_", "").replace(",", "")
        if not digits.isascii() or not digits.isdigit():
            self.fail(f"{value!r} is neither a whole number nor 'none' nor 'plan'.", param, ctx)
        return int(digits)


class NamesType(click.ParamType[tuple[str, ...]]):
    """Several names with commas between them."""

    name = "a,b"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Read the text of an option."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name.", param, ctx)
        return names


class MomentType(click.ParamType[datetime]):
    """A moment like ``2026-12-01`` or ``2026-12-01T00:00:00Z``; in UTC where it names no zone."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the text of an option."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a moment like 2026-12-01 or 2026-12-01T00:00:00Z.", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class MonthType(click.ParamType[Month]):
    """A month, as ``2026-11``."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Month:
        """Read the text of an option."""
        try:
            return month_of(month_start(Month(value)))
        except ValueError:
            self.fail(f"{value!r} is not a month like 2026-11.", param, ctx)


DURATION_TYPE = DurationType()
LIMIT_TYPE = LimitType()
NAMES_TYPE = NamesType()
MOMENT_TYPE = MomentType()
MONTH_TYPE = MonthType()
CURRENCY_TYPE = click.Choice([currency.value for currency in Currency], case_sensitive=False)

account_option = click.option(
    "--account", "account_id", type=click.UUID, required=True, help="The account's id."
)
