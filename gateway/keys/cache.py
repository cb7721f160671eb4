"""Keys at hand, so that a request with a known key costs no query, and none that was revoked is answered.

The cache answers only while it holds a lease: somebody who hears every change of a key (``listener.py``) has
proved a moment ago that the line is alive. Without it every look-up goes to Postgres, which is slow and right.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from gateway.keys.model import KeyRecord
from gateway.runtime.settings import Limits

UNKNOWN_KEYS_MAX = 10_000
"""Well-formed keys that do not exist are remembered apart, so that they cannot push out real ones."""


class Unknown:
    """The answer that a key was looked up a moment ago and does not exist."""


UNKNOWN: Final = Unknown()


class _Entry(msgspec.Struct, frozen=True, gc=False):
    record: KeyRecord
    until_s: float


def announcements_of(record: KeyRecord) -> tuple[str, str, str]:
    """Name the changes that make a record stale, as the triggers in ``schema.sql`` announce them."""
    return f"api_key:{record.key_id}", f"account:{record.account_id}", f"plan:{record.plan_id}"


class KeyCache:
    """Records by full digest: bounded, short-lived, emptied by announcement. Times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._entries_max = limits.key_cache_entries
        self._lifetime_s = limits.key_cache_s
        self._unknown_lifetime_s = limits.unknown_key_cache_s
        self._lease_until_s = 0.0
        self._epoch = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: dict[bytes, float] = {}
        self._affected: dict[str, set[bytes]] = {}

    @property
    def epoch(self) -> int:
        """Counts the changes heard of; what was read before one may be stale after it."""
        return self._epoch

    def __len__(self) -> int:
        return len(self._entries) + len(self._unknown)

    def lease(self, until_s: float) -> None:
        """Allow answers until a moment, because changes are being heard until then."""
        self._lease_until_s = until_s

    def leased(self, now_s: float) -> bool:
        """Tell whether known keys are answered from here."""
        return now_s < self._lease_until_s

    def get(self, digest: bytes, now_s: float) -> KeyRecord | Unknown | None:
        """Return the record of a digest, ``UNKNOWN``, or ``None`` where Postgres must be asked."""
        entry = self._entries.get(digest)
        if entry is not None:
            if now_s >= entry.until_s or now_s >= self._lease_until_s:
                return None
            self._entries.move_to_end(digest)
            return entry.record
        return UNKNOWN if self._unknown.get(digest, 0.0) > now_s else None

    def put(self, digest: bytes, record: KeyRecord | None, *, now_s: float, epoch: int) -> None:
        """Keep what was read, unless a change was heard since ``epoch``, when the reading began."""
        if epoch != self._epoch:
            return
        self._remove(digest)
        if record is None:
            self._unknown[digest] = now_s + self._unknown_lifetime_s
            if len(self._unknown) > UNKNOWN_KEYS_MAX:
                del self._unknown[next(iter(self._unknown))]
            return
        self._entries[digest] = _Entry(record, now_s + self._lifetime_s)
        for announcement in announcements_of(record):
            self._affected.setdefault(announcement, set()).add(digest)
        if len(self._entries) > self._entries_max:
            self._remove(next(iter(self._entries)))

    def forget(self, announcement: str) -> None:
        """Drop every record that a change made stale, such as ``api_key:<uuid>``."""
        self._epoch += 1
        for digest in tuple(self._affected.get(announcement, ())):
            self._remove(digest)

    def clear(self) -> None:
        """Drop everything and the lease: changes may have been missed."""
        self._epoch += 1
        self._lease_until_s = 0.0
        self._entries.clear()
        self._unknown.clear()
        self._affected.clear()

    def _remove(self, digest: bytes) -> None:
        self._unknown.pop(digest, None)
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        for announcement in announcements_of(entry.record):
            digests = self._affected[announcement]
            digests.discard(digest)
            if not digests:
                del self._affected[announcement]
