"""Guessing becomes slow, and nobody is ever locked out.

An attempt is counted before it is judged, in one statement, so that a hundred guesses at once count as a hundred.
Whoever is right is given the count back.
"""

from datetime import datetime, timedelta

import msgspec

from admin.access import store
from admin.access.keyring import Keyring, Purpose
from admin.access.model import TooSoon
from gateway.db.pool import Db


class Policy(msgspec.Struct, frozen=True):
    """How attempts on one subject are slowed: some are free, then each doubles the wait up to ``wait_max_s``."""

    name: str
    free: int
    wait_max_s: int
    forgotten_after: timedelta = timedelta(hours=1)

    def wait_s(self, failures: int) -> int:
        """Return how many seconds lie between this failure and the next attempt."""
        if failures < self.free:
            return 0
        return min(self.wait_max_s, 1 << min(failures - self.free, 30))


ADDRESS = Policy("address", free=5, wait_max_s=30)
"""Attempts on one address from networks that its owner has never used; a short wait, because an owner may be new."""

NETWORK = Policy("network", free=30, wait_max_s=900)
"""Attempts of one network on whatever address; schools and offices share one."""

KNOWN = Policy("known", free=5, wait_max_s=30)
"""Attempts on one person from one network that they have used: there nobody waits for what neighbours do elsewhere."""

CODE = Policy("code", free=5, wait_max_s=60)
"""Codes of a second factor for one person, whose password was right."""

RESET = Policy("reset", free=10, wait_max_s=900)
"""Reset links that one network asks for, for whatever address."""

PAYING = Policy("paying", free=30, wait_max_s=60)
"""What one account asks of Stripe, which rations what it answers; nobody changes a plan as often as that."""


def subject_of(keyring: Keyring, policy: Policy, value: str) -> bytes:
    """Return what is stored of the subject: nothing that names an address or a network."""
    return keyring.digest(Purpose.GUESS, f"{policy.name}:{value}".encode())


async def attempt(db: Db, keyring: Keyring, policy: Policy, value: str, now: datetime) -> None:
    """Count an attempt and let it happen, or ``TooSoon`` with the seconds to wait; it is not counted then.

    ``db`` is outside any transaction that a refusal would roll back.
    """
    subject = subject_of(keyring, policy, value)
    counted = await store.count_attempt(
        db,
        subject,
        now,
        free=policy.free,
        wait_max_s=policy.wait_max_s,
        forgotten_after=policy.forgotten_after,
    )
    if counted:
        return
    failures, last_failed_at = await store.fetch_attempts(db, subject) or (0, now)
    ends_at = last_failed_at + timedelta(seconds=policy.wait_s(failures))
    raise TooSoon(wait_s=max(1, -(-int((ends_at - now).total_seconds() * 1000) // 1000)))


async def forgive(db: Db, keyring: Keyring, policy: Policy, value: str) -> None:
    """Take the last attempt back, because it was right."""
    await store.forgive_attempt(db, subject_of(keyring, policy, value))


async def forget(db: Db, keyring: Keyring, policy: Policy, value: str) -> None:
    """Begin to count from nothing, because the person is inside."""
    await store.forget_attempts(db, subject_of(keyring, policy, value))
