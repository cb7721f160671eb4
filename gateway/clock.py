"""Time and the calendar periods that limits belong to; the only place that reads a clock.

Periods are calendar months and days in UTC, half-open. A request belongs to the period in which it was
admitted, whatever the time is when it ends.
"""

import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NewType, Protocol

Month = NewType("Month", str)
"""A calendar month in UTC, written ``2026-11``."""

Day = NewType("Day", str)
"""A calendar day in UTC, written ``2026-11-23``."""

DECEMBER = 12
PERIODS_KEPT = 64


class Clock(Protocol):
    """Where the time comes from; tests pass one that they move."""

    def now(self) -> datetime:
        """Return the time now, in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time now, in UTC."""
        return datetime.now(UTC)


def unix_seconds() -> int:
    """Return the whole Unix seconds of the machine, as ``created_at`` fields carry them."""
    return int(time.time())


def monotonic_s() -> float:
    """Return seconds of a clock that never jumps, for durations and deadlines inside one process."""
    return time.monotonic()


def month_of(moment: datetime) -> Month:
    """Name the UTC month that a moment belongs to."""
    utc = moment.astimezone(UTC)
    return Month(f"{utc.year:04}-{utc.month:02}")


def day_of(moment: datetime) -> Day:
    """Name the UTC day that a moment belongs to."""
    return Day(moment.astimezone(UTC).strftime("%Y-%m-%d"))


def month_start(month: Month) -> datetime:
    """Return the first moment of a month; ``ValueError`` if the text is not ``YYYY-MM``."""
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)


@lru_cache(maxsize=PERIODS_KEPT)
def month_end(month: Month) -> datetime:
    """Return the first moment after a month, which is when its limits reset."""
    start = month_start(month)
    if start.month == DECEMBER:
        return start.replace(year=start.year + 1, month=1)
    return start.replace(month=start.month + 1)


def day_end(day: Day) -> datetime:
    """Return the first moment after a day, which is when its limits reset."""
    start = date.fromisoformat(day)
    return datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(days=1)


def format_utc_exact(moment: datetime) -> str:
    """Write a moment to the microsecond, as the ledger's exports do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def format_utc(moment: datetime) -> str:
    """Write a moment as the API does: ``2026-12-01T00:00:00Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
