"""Counting refusals beside the way of a request: in memory first, and in Postgres every few seconds.

What a process has counted since its last writing is lost when it crashes. These are counts for people to find a
mistake by; nothing is limited or billed by them.
"""

from datetime import datetime

from gateway.db.pool import Pool
from gateway.errors import NusagateError
from gateway.keys.model import KeyRecord, KeyRefused
from gateway.refusals import store
from gateway.refusals.model import reason_of
from gateway.refusals.store import Refused
from gateway.runtime import metrics


class Refusals:
    """Counts refusals by account, key, hour and reason; ``counts_max`` bounds how many counts wait to be written."""

    def __init__(self, *, counts_max: int) -> None:
        self._counts_max = counts_max
        self._counts: dict[Refused, int] = {}

    def note(self, record: KeyRecord | None, error: NusagateError, now: datetime) -> None:
        """Count a refusal for the account of its key; one that shows no key of ours is nobody's."""
        if record is None:
            if not isinstance(error, KeyRefused):
                return
            record = error.record
        hour = now.replace(minute=0, second=0, microsecond=0)
        self._add((record.account_id, record.key_id, hour, reason_of(error)), 1)

    async def flush(self, db: Pool) -> int:
        """Write what has been counted in one statement, and return how many counts; what fails is tried again."""
        counts, self._counts = self._counts, {}
        if not counts:
            return 0
        try:
            await store.add(db, counts)
        except BaseException:
            for refused, requests in counts.items():
                self._add(refused, requests)
            raise
        return len(counts)

    def _add(self, refused: Refused, requests: int) -> None:
        if refused in self._counts or len(self._counts) < self._counts_max:
            self._counts[refused] = self._counts.get(refused, 0) + requests
        else:
            metrics.refusals_uncounted_total.inc(requests)
