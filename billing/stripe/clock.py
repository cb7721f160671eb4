"""The time that plans and payments live in: the machine's, or that of a sandbox on which somebody lets months pass.

Beside ``nusagate dev`` a renewal, the end of a grace or of a plan is a month away. So the sandbox's time can be moved
ahead, and what is decided about subscriptions follows it. Usage, limits and the ledger stay in the machine's time.
"""

from datetime import datetime, timedelta
from pathlib import Path

from billing.settings import StripeSettings
from gateway.clock import Clock
from gateway.errors import ConfigurationError


class SandboxClock:
    """A clock that is ahead of another by the whole seconds that are written in a file; without the file by none."""

    def __init__(self, base: Clock, path: Path) -> None:
        self._base = base
        self._path = path

    def now(self) -> datetime:
        """Return the time now, in UTC; ``ConfigurationError`` where the file holds no number."""
        try:
            ahead_s = int(self._path.read_text())
        except FileNotFoundError:
            ahead_s = 0
        except ValueError as error:
            raise ConfigurationError(
                f"{self._path} does not say how far the sandbox's time is ahead"
            ) from error
        return self._base.now() + timedelta(seconds=ahead_s)


def plan_clock(clock: Clock, settings: StripeSettings) -> Clock:
    """Return the clock by which plans begin, end and are owed for."""
    return clock if settings.clock_file is None else SandboxClock(clock, settings.clock_file)
