"""The ledger in Postgres."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from gateway.clock import Month, format_utc_exact
from gateway.db.jsonb import jsonb_text
from gateway.db.pool import Db, Pool, Row, retry_contention
from gateway.db.queries import load_queries
from gateway.ids import FIRST_UUID, LAST_UUID, request_label, uuid7_floor
from gateway.ledger.model import Entry, Heartbeat, Settlement, Span, StaleIntent, UsageRow
from gateway.units import AmountPico, format_amount

QUERIES = load_queries(__package__)
ENCODER = msgspec.json.Encoder()
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
EXPORT_PAGE = 2_000

USAGE_GROUPS = ("model", "key", "user", "status", "day", "hour")
USERS_MAX = 1_000
"""How many end users have a row of their own. Models, keys, statuses, days and hours are few by themselves."""
MONTH_CHECKS = {
    "I1 one entry for each settled request": "verify_one_entry_a_request",
    "I3 no request has two entries": "verify_no_double_entry",
    "I3 outbox equals billable entries": "verify_outbox",
    "I6 used equals the ledger": "verify_used",
    "I6 period totals equal the ledger": "verify_period_totals",
    "I6 hourly usage equals the ledger": "verify_hourly",
    "I6 closed days equal their hours": "verify_daily",
    "I12 period is the month of admission": "verify_period",
    "amount is tokens times rate": "verify_amount",
}
"""What is checked month by month, so that no statement reads more than one."""

WHOLE_CHECKS = {
    "I5 no account is above its limit": "verify_limits",
    "I6 held equals open requests": "verify_held",
    "I6 requests in flight": "verify_in_flight",
    "I13 the ledger is append-only": "verify_append_only",
    "every month has its partition": "verify_default_partition",
}
"""What does not grow with the ledger."""

VERIFY_TIMEOUT_S = 300


async def settle(db: Pool, settlements: Sequence[Settlement]) -> set[UUID]:
    """Commit the ends of a batch of requests; return those that were still open."""
    rows = jsonb_text(ENCODER.encode(settlements))
    closed = await retry_contention(lambda: db.fetch(QUERIES["settle"], rows))
    return {row["request_id"] for row in closed}


async def swept(db: Db, request_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of some requests that a sweeper has ended, with an estimate."""
    rows = await db.fetch(QUERIES["swept"], list(request_ids))
    return [row["request_id"] for row in rows]


async def stale_intents(db: Db, *, unheard_s: int, limit: int) -> list[StaleIntent]:
    """Read open requests whose gateway was last heard of more than ``unheard_s`` seconds ago."""
    rows = await db.fetch(QUERIES["stale_intents"], unheard_s, limit)
    return [StaleIntent(**dict(row)) for row in rows]


async def heartbeat(db: Db, beats: Sequence[Heartbeat]) -> None:
    """Say that requests are being served, and how much of their answers was delivered."""
    await db.execute(
        QUERIES["heartbeat"],
        [beat.request_id for beat in beats],
        [beat.delivered_bytes for beat in beats],
        [beat.upstream for beat in beats],
    )


async def intent_states(db: Db, request_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Say how requests stand: ``open``, ``settled`` or ``released``."""
    rows = await db.fetch(QUERIES["intent_states"], list(request_ids))
    return {row["request_id"]: row["state"] for row in rows}


async def export(db: Db, *, account_id: UUID | None, period: Month | None) -> AsyncIterator[Entry]:
    """Read the ledger in order of admission, a page at a time."""
    after = (BEGINNING, FIRST_UUID)
    while rows := await db.fetch(QUERIES["export"], account_id, period, *after, EXPORT_PAGE):
        for row in rows:
            yield _entry(row)
        after = (rows[-1]["occurred_at"], rows[-1]["entry_id"])


async def usage(db: Db, account_id: UUID, group_by: str, start: datetime, end: datetime) -> list[UsageRow]:
    """Sum an account's usage over [start, end) by model, key, user, status, day or hour, from the read models.

    The end users after the ``USERS_MAX`` with most tokens are together in a row whose group is ``None``, one a currency.
    """
    places = [USERS_MAX] if group_by == "user" else []
    rows = await db.fetch(QUERIES[f"usage_by_{group_by}"], account_id, start, end, *places)
    return [
        UsageRow(
            group=row["grouped"],
            requests=row["requests"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            total_tokens=row["input_tokens"] + row["output_tokens"],
            currency=row["currency"],
            amount=format_amount(AmountPico(int(row["amount_pico"]))),
        )
        for row in rows
    ]


async def months(db: Db) -> list[Month]:
    """Read the months that the ledger has a place or entries for, oldest first."""
    return [row["month"] for row in await db.fetch(QUERIES["verify_months"], timeout=VERIFY_TIMEOUT_S)]


async def count_violations(db: Db, query: str, span: Span | None) -> int:
    """Count the rows that break an invariant, in a span of time where it is checked by months."""
    return int(await db.fetchval(QUERIES[query], *_parameters(query, span), timeout=VERIFY_TIMEOUT_S))


async def ensure_partitions(db: Db, months: int) -> None:
    """Make the ledger's partitions for this month and those after it."""
    await db.execute(QUERIES["ensure_partitions"], months)


async def delete_closed_intents(db: Db, *, older_than_days: int, page: int) -> int:
    """Clear one page of old closed intents; return how many went."""
    status = await db.execute(QUERIES["delete_closed_intents"], older_than_days, page)
    return int(status.split()[-1])


def _parameters(query: str, span: Span | None) -> tuple[object, ...]:
    if span is None:
        return ()
    if query == "verify_no_double_entry":
        return (
            FIRST_UUID if span.start is None else uuid7_floor(span.start),
            LAST_UUID if span.end is None else uuid7_floor(span.end),
        )
    return span.bounds


def _entry(row: Row) -> Entry:
    return Entry(
        entry_id=row["entry_id"],
        kind=row["kind"],
        request_id=request_label(row["request_id"]),
        account_id=row["account_id"],
        key_id=row["key_id"],
        model=row["model"],
        endpoint=row["endpoint"],
        upstream=row["upstream"],
        user=row["end_user"],
        plan=row["plan_id"],
        period=row["period"],
        admitted_at=format_utc_exact(row["occurred_at"]),
        settled_at=format_utc_exact(row["settled_at"]),
        input_tokens=row["input_tokens"],
        input_cached_tokens=row["input_cached_tokens"],
        output_tokens=row["output_tokens"],
        output_reasoning_tokens=row["output_reasoning_tokens"],
        total_tokens=row["quota_tokens"],
        usage_source=row["usage_source"],
        end_reason=row["end_reason"],
        currency=row["currency"],
        amount=format_amount(AmountPico(row["amount_pico"])),
        amount_pico=row["amount_pico"],
        price_book=row["book_id"],
    )
