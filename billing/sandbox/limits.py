"""Stripe's rate limits: a bucket for everything and one for each endpoint, off until somebody sets them."""

from billing.sandbox.refusals import RateLimited
from billing.sandbox.state import RateLimits

METER_EVENTS = "/meter_events"


class LimitBook:
    """Counts the requests of the current second of the sandbox's clock."""

    def __init__(self) -> None:
        self._second = 0
        self._counts: dict[str, int] = {}

    def check(self, limits: RateLimits, *, method: str, endpoint: str, now: int) -> None:
        """Count one request; refuse it when a limit of this second is used up."""
        if now != self._second:
            self._second, self._counts = now, {}
        if method == "POST" and endpoint.endswith(METER_EVENTS):
            self._count("meter events", limits.meter_events_per_s, "endpoint-rate")
            return
        self._count("everything", limits.global_per_s, "global-rate")
        self._count(f"{method} {endpoint}", limits.endpoint_per_s, "endpoint-rate")

    def _count(self, name: str, limit: int | None, reason: str) -> None:
        used = self._counts.get(name, 0)
        if limit is not None and used >= limit:
            raise RateLimited(reason)
        self._counts[name] = used + 1
