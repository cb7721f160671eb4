"""Stops everything that is sent while Stripe does not accept our key: asking again and again helps nobody."""

import asyncio
from datetime import datetime, timedelta

from gateway.clock import monotonic_s
from gateway.runtime import metrics


class Circuit:
    """Open after a 401 or a 403 for ``pause``; then one success closes it, and one more refusal opens it again."""

    def __init__(self, pause: timedelta) -> None:
        self._pause = pause
        self._open_until: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Tell whether nothing may be sent."""
        return self._open_until is not None and now < self._open_until

    def trip(self, now: datetime) -> None:
        """Stop sending."""
        self._open_until = now + self._pause
        metrics.stripe_circuit_open.set(1)

    def close(self) -> None:
        """Go on: Stripe accepted the key."""
        if self._open_until is not None:
            self._open_until = None
            metrics.stripe_circuit_open.set(0)


class Pace:
    """Spreads requests evenly over a second, and stops them for a while when Stripe asks for that."""

    def __init__(self, per_s: int) -> None:
        gap_s = 1 / per_s
        self._gap_s = gap_s
        self._free_s = monotonic_s()

    async def turn(self) -> None:
        """Take the next turn, and wait for it."""
        now_s = monotonic_s()
        turn_s = max(self._free_s, now_s)
        self._free_s = turn_s + self._gap_s
        await asyncio.sleep(turn_s - now_s)

    def pause(self, pause_ms: int) -> None:
        """Give no turn for some milliseconds."""
        pause_s = pause_ms / 1_000
        self._free_s = max(self._free_s, monotonic_s() + pause_s)
