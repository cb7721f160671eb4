"""Closing days: when no settlement can come for a UTC day any more, its hours are summed, once, in order.

Settling knows nothing of this and pays nothing for it. It writes into the hour in which a request was admitted, and
only while the request's intent is open; so a day that ended hours ago, and before whose end no open intent was
admitted, gets no settlement any more. Whoever else writes hours (corrections, adjustments, write-offs) keeps one rule:
``follow`` in the same transaction. Deleting the watermark is always safe: views read hours, and the days are summed again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from gateway.db.pool import Connection, Pool
from gateway.rollup import store
from gateway.runtime import metrics

MARGIN_HOURS = 6
"""How long a day must be over: far longer than an admission takes to be recorded, and than clocks may differ."""
DAYS_A_TURN = 31


async def close_days(db: Pool) -> int:
    """Close the days that are due, each in a transaction of its own, a month of them at most; return how many."""
    closed = 0
    while closed < DAYS_A_TURN and await _close_next(db):
        closed += 1
    return closed


async def follow(connection: Connection, account_ids: Sequence[UUID], moment: datetime) -> None:
    """Let a closed day follow the hours that were just written into it, otherwise than by settling.

    ``moment`` is any of the day. The caller holds the transaction of the writing, and the gates of the accounts, so that nobody
    else is writing hours of theirs.
    """
    await store.share_days(connection)
    day = moment.astimezone(UTC).date()
    if await store.is_closed(connection, day):
        await store.sum_day(connection, day, account_ids)


async def _close_next(db: Pool) -> bool:
    async with db.acquire() as connection, connection.transaction():
        await store.lock_days(connection)
        # A statement of its own before the summing: what it finds ended is in the hours that the next one sees.
        found = await store.backlog(connection, margin_hours=MARGIN_HOURS)
        metrics.usage_days_behind.set(found.days)
        if found.due is None:
            return False
        await store.sum_day(connection, found.due, None)
        await store.close_day(connection, found.due)
    return True
