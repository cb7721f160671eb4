"""What commands of this room are given: an account, a month."""

from typing import Any

import rich_click as click

from gateway.clock import Month, month_start

account_option = click.option(
    "--account", "account_id", type=click.UUID, required=True, help="The account's id."
)


class MonthType(click.ParamType[Month]):
    """A month, as ``2026-11``."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Month:
        """Read the text of an option."""
        try:
            month_start(Month(value))
        except ValueError:
            self.fail(f"{value!r} is not a month like 2026-11.", param, ctx)
        return Month(value)


MONTH_TYPE = MonthType()
