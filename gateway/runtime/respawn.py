"""When a worker has died: replace it, how soon, and when to give up instead.

A server that never came up ends, so that a wrong setting is seen at once. One that did come up goes on: its other workers
have streams under way, and what killed one (the kernel, Postgres away while it started) may be over the next time. Whoever
runs the process sees by its health that it does not serve.
"""

from typing import Final

YOUNG_S: Final = 6.0
"""A worker that lived longer than this had started, and its server is not given up any more."""
DEATHS_MAX: Final = 10
PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 2.0


class Respawning:
    """What became of the workers of one server so far."""

    def __init__(self) -> None:
        self._young_deaths = 0
        self._has_served = False

    def died(self, age_s: float) -> float | None:
        """Note a death and return the pause before the worker is replaced, in seconds; ``None`` is giving up."""
        if age_s > YOUNG_S:
            self._has_served, self._young_deaths = True, 0
        pause_s = min(PAUSE_MAX_S, PAUSE_MIN_S * 2**self._young_deaths)
        self._young_deaths = min(self._young_deaths + 1, DEATHS_MAX)
        return None if self._young_deaths == DEATHS_MAX and not self._has_served else pause_s
