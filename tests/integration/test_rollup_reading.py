"""Readings of usage say the same whichever days are closed, to the row, however a range lies over days and hours."""

import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from admin.reports import store as reports
from gateway.db.pool import BY_KEY, open_pool
from gateway.ledger import store as ledger
from gateway.runtime.settings import Limits
from tests.plugins.days import DAY, FORGET, HOUR, close_until, day_of, today, use

DAYS = 20
SPANS = 25
MINUTE = timedelta(minutes=1)
GROUPS = {"model": "model", "key": "key_id", "status": "end_reason"}


@pytest.fixture
async def asking(database_url):
    """A pool that plans as a gateway does."""
    pool = await open_pool(database_url, Limits(), application="tests", planning=BY_KEY)
    yield pool
    await pool.close()


async def fill(db, dice, accounts, midnight):
    """Write hours of some accounts at random, with gaps: whole days without any, and hours with many rows."""
    rows = {}
    for _ in range(900):
        hour = midnight - dice.randrange(DAYS) * DAY + dice.randrange(24) * HOUR
        if day_of(hour).day % 7 == 3:
            continue
        place = (
            dice.choice(accounts), hour, UUID(int=dice.randrange(3)), dice.choice("abc"),
            dice.choice(["completed", "incomplete"]), dice.choice(["idr", "idr", "usd"]),
        )  # fmt: skip
        rows[place] = [dice.randrange(10**6) for _ in range(5)] + [dice.randrange(-(10**18), 10**18)]
    await db.executemany(
        "INSERT INTO usage_hourly VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        [(*place, *numbers) for place, numbers in rows.items()],
    )


def span(dice, midnight):
    """A range of time that begins and ends anywhere, often on a full hour or at midnight, sometimes within one day."""
    ends = []
    for _ in range(2):
        moment = midnight - dice.randrange(-1, DAYS + 2) * DAY
        moment += (
            dice.choice([0, 0, dice.randrange(24)]) * HOUR + dice.choice([0, dice.randrange(60)]) * MINUTE
        )
        ends.append(moment)
    start, end = sorted(ends)
    return start, end if end > start else start + dice.randrange(1, 30) * HOUR


async def summed(db, account_id, column, start, end):
    """Usage by group and currency, added up here, row by row."""
    sums: Counter = Counter()
    for row in await db.fetch("SELECT * FROM usage_hourly WHERE account_id = $1", account_id):
        if start <= row["hour"] < end:
            group = f"{day_of(row['hour'])}" if column == "day" else str(row[column])
            for name in ("requests", "input_tokens", "output_tokens"):
                sums[group, row["currency"], name] += row[name]
    return +sums


def told(rows):
    sums: Counter = Counter()
    for row in rows:
        for name in ("requests", "input_tokens", "output_tokens"):
            sums[row.group, row.currency, name] += getattr(row, name)
    return +sums


@pytest.mark.parametrize("seed", range(6))
async def test_usage_is_the_same_whatever_is_closed(seeded, asking, sari, budi, seed):
    dice, midnight = random.Random(seed), await today(seeded)
    accounts = [sari.account_id, budi.account_id]
    await fill(seeded, dice, accounts, midnight)
    asked = [
        (dice.choice(accounts), group, *span(dice, midnight))
        for _ in range(SPANS)
        for group in (*GROUPS, "day", "hour")
    ]
    by_hours = [await ledger.usage(asking, *question) for question in asked]
    await close_until(seeded, day_of(midnight - dice.randrange(DAYS + 1) * DAY))
    by_days = [await ledger.usage(asking, *question) for question in asked]
    assert by_days == by_hours
    for (account_id, group, start, end), rows in zip(asked, by_days, strict=True):
        if group != "hour":
            assert told(rows) == await summed(seeded, account_id, GROUPS.get(group, group), start, end)


@pytest.mark.parametrize("seed", range(6))
async def test_bars_are_the_same_whatever_is_closed(seeded, sari, seed):
    dice, midnight = random.Random(seed), await today(seeded)
    await fill(seeded, dice, [sari.account_id], midnight)
    asked = []
    for _ in range(SPANS):
        start, end = span(dice, midnight)
        places = dice.choice([(6, 50), (1, 2)])
        bar_hours = dice.choice([1, 5, 24, 24, 24, 48, 168])
        asked.append(((start, end), bar_hours, dice.choice([*GROUPS]), places))
    # What a page asks for: whole days, and the last of them not over.
    asked.append(((midnight - (DAYS - 1) * DAY, midnight + DAY), 24, "model", (6, 50)))

    async def read():
        return [
            await reports.cells(seeded, sari.account_id, of, bar_hours=bar_hours, group=group, places=places)
            for of, bar_hours, group, places in asked
        ]

    by_hours = await read()
    await close_until(seeded, day_of(midnight - dice.randrange(DAYS + 1) * DAY))
    assert await read() == by_hours
    assert any(cells.parts for cells in by_hours)
    await seeded.execute(FORGET)
    assert await read() == by_hours


async def test_closed_days_are_read_from_days_and_the_rest_from_hours(seeded, asking, sari):
    """What days say is made wrong, to see where it is believed."""
    midnight = await today(seeded)
    for days in range(5):
        for hours in (1, 22):
            await use(seeded, sari.account_id, midnight - days * DAY + hours * HOUR)
    await close_until(seeded, day_of(midnight - 2 * DAY))
    await seeded.execute("UPDATE usage_daily SET requests = 1000")

    async def requests(start, end, group="model"):
        return sum(row.requests for row in await ledger.usage(asking, sari.account_id, group, start, end))

    begin, end = midnight - 4 * DAY, midnight + DAY
    assert await requests(begin, end) == 3 * 1000 + 4
    assert await requests(begin + HOUR, end) == 2 + 2 * 1000 + 4
    assert await requests(begin, midnight - 2 * DAY + 2 * HOUR) == 2 * 1000 + 1
    assert await requests(begin + HOUR, begin + 23 * HOUR) == 2
    assert await requests(begin, end, "hour") == 10
    for bar_hours, expected in ((24, 3 * 1000 + 4), (48, 2 * 1000 + 1002 + 2), (12, 10)):
        cells = await reports.cells(
            seeded, sari.account_id, (begin, end), bar_hours=bar_hours, group="model", places=(6, 50)
        )
        assert sum(cell.requests for cell in cells.sums) == expected


async def test_the_end_users_who_used_least_are_together_in_rows_without_a_name(seeded, sari):
    midnight = await today(seeded)
    many = ledger.USERS_MAX + 3
    await seeded.execute(
        "INSERT INTO usage_user_daily SELECT $1, $2, 'user ' || n, c, 1, n, 1, 10 "
        "FROM generate_series(1, $3::int) n, unnest(ARRAY['idr', 'usd']) c",
        sari.account_id, day_of(midnight), many,
    )  # fmt: skip
    rows = await ledger.usage(seeded, sari.account_id, "user", midnight, midnight + DAY)
    named = [row for row in rows if row.group is not None]
    assert {row.group for row in named} == {f"user {n}" for n in range(4, many + 1)}
    assert rows[: len(named)] == named == sorted(named, key=lambda row: (row.group, row.currency))
    assert [(row.group, row.currency, row.requests, row.input_tokens) for row in rows[len(named) :]] == [
        (None, "idr", 3, 6), (None, "usd", 3, 6),
    ]  # fmt: skip
    assert sum(row.total_tokens for row in rows) == many * (many + 1) + 2 * many


async def test_few_end_users_all_have_their_names(seeded, sari):
    midnight = await today(seeded)
    await seeded.execute(
        "INSERT INTO usage_user_daily VALUES ($1, $2, 'citra', 'idr', 1, 2, 3, 4), ($1, $2, 'ani', 'idr', 5, 6, 7, 8)",
        sari.account_id, day_of(midnight),
    )  # fmt: skip
    rows = await ledger.usage(seeded, sari.account_id, "user", midnight, midnight + DAY)
    assert [(row.group, row.requests) for row in rows] == [("ani", 5), ("citra", 1)]
