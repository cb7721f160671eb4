"""The sandbox's own time, which runs like the machine's unless somebody moves or stops it."""

from collections.abc import Callable
from datetime import UTC, datetime

from gateway.clock import Clock, SystemClock


class VirtualClock:
    """A clock of whole seconds that can be moved ahead and stopped; it never goes back."""

    def __init__(
        self, base: Clock | None = None, *, offset_s: int = 0, stopped_at: int | None = None
    ) -> None:
        self._base = base or SystemClock()
        self.offset_s = offset_s
        self.stopped_at = stopped_at
        self.when_moved: Callable[[int], None] = lambda _: None
        """Told of every move at once, with the seconds that this clock is then ahead of the machine's."""

    def now(self) -> int:
        """Return Unix seconds."""
        if self.stopped_at is not None:
            return self.stopped_at
        return self._machine_s() + self.offset_s

    def stop(self, at: int | None = None) -> None:
        """Stop the clock, now or at a moment that is not in its past."""
        self.stopped_at = self._not_before_now(self.now() if at is None else at)
        self.tell()

    def run(self) -> None:
        """Let the clock run on from where it stands."""
        here = self.now()
        self.stopped_at = None
        self.offset_s = here - self._machine_s()
        self.tell()

    def move_to(self, moment: int) -> None:
        """Move the clock ahead to a moment; ``ValueError`` if that is in its past."""
        moment = self._not_before_now(moment)
        if self.stopped_at is not None:
            self.stopped_at = moment
        else:
            self.offset_s += moment - self.now()
        self.tell()

    def restart(self, stopped_at: int | None) -> None:
        """Forget every move; stand at a moment, or run with the machine. The one way back in time."""
        self.offset_s, self.stopped_at = 0, stopped_at
        self.tell()

    def tell(self) -> None:
        """Say how far ahead the clock is now."""
        self.when_moved(self.now() - self._machine_s())

    def _machine_s(self) -> int:
        return int(self._base.now().timestamp())

    def _not_before_now(self, moment: int) -> int:
        if moment < self.now():
            raise ValueError("the sandbox's clock does not go back")
        return moment


def rfc3339(moment: int) -> str:
    """Write Unix seconds as Stripe's v2 API does: ``2026-11-23T02:00:00.000Z``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def from_rfc3339(text: str) -> int:
    """Read the Unix seconds of an RFC 3339 moment; ``ValueError`` if it is not one or has no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    return int(moment.timestamp())
