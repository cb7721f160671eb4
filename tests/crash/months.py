"""F21: clocks that jump over the turn of the month, back, and apart: a request belongs to the month of its admission.

The clock is injected where admission asks for it, so no process has to be lied to.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from tests.crash.load import Load
from tests.crash.scenario import Scenario, Trial

TURN = datetime(2026, 12, 1, tzinfo=UTC)
SKEW = timedelta(minutes=5)
BATCH = 50
TEMPLATE = {
    "model": "nusantara-base", "endpoint": "chat", "stream": False, "end_user": None, "plan_id": "payg",
    "billable": True, "currency": "idr", "input_tokens": 10, "output_tokens": 10, "output_min": 1, "choices": 1,
    "deadline_s": 60, "month_limit": None, "day_limit": None, "key_limit": None, "requests_per_minute": None,
    "tokens_per_minute": None, "concurrency": None,
}  # fmt: skip
"""A request as the admission function is asked."""


@dataclass
class Boundary:
    """What happened at the boundary: how many requests, and which of them are in a wrong month, or in two."""

    requests: int = 0
    wrong: list[str] = field(default_factory=list)


class SkewedClock:
    """The clock of one process: up to five minutes wrong, and it may jump."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._skew = timedelta(seconds=rng.uniform(-1, 1) * SKEW.total_seconds())

    def now(self, moment: datetime) -> datetime:
        """The time that this process believes it is; a few readings in a hundred jump."""
        if self._rng.random() < 0.03:
            return moment + timedelta(seconds=self._rng.uniform(-1, 1) * SKEW.total_seconds())
        return moment + self._skew


async def cross_the_month(
    pool: "asyncpg.Pool[asyncpg.Record]", account_id: UUID, key_id: UUID, *, requests: int, seed: int
) -> Boundary:
    """Admit requests around the turn of a month by processes whose clocks disagree; compare what was written."""
    rng = random.Random(seed)
    clocks = [SkewedClock(rng) for _ in range(4)]
    told: dict[UUID, str] = {}
    await pool.execute("SELECT ensure_ledger_partitions($1, 2)", TURN - timedelta(days=1))

    async def admit(clock: SkewedClock, moment: datetime) -> None:
        now = clock.now(moment)
        batch = [
            {**TEMPLATE, "request_id": str(UUID(int=rng.getrandbits(128))), "account_id": str(account_id), "key_id": str(key_id)}
            for _ in range(BATCH)
        ]  # fmt: skip
        rows = await pool.fetch(
            "SELECT * FROM reserve_v1($1::jsonb, $2::timestamptz)", json.dumps(batch), now
        )
        for row in rows:
            assert row["refused_by"] is None, row
            told[row["request_id"]] = now.strftime("%Y-%m")

    for _ in range(requests // BATCH // len(clocks)):
        moment = TURN + timedelta(seconds=rng.uniform(-400, 400))
        await asyncio.gather(*(admit(clock, moment) for clock in clocks))
    return await _compare(pool, account_id, told)


async def _compare(pool: "asyncpg.Pool[asyncpg.Record]", account_id: UUID, told: dict[UUID, str]) -> Boundary:
    boundary = Boundary(len(told))
    rows = await pool.fetch("SELECT * FROM request_intent WHERE account_id = $1", account_id)
    for row in rows:
        months = {told[row["request_id"]], row["period"], f"{row['admitted_at']:%Y-%m}", row["day"][:7]}
        if len(months) != 1:
            boundary.wrong.append(f"{row['request_id']}: {sorted(months)}")
    held = Counter(row["period"] for row in rows)
    counters = await pool.fetch(
        "SELECT period, held_tokens FROM quota_counter WHERE subject_id = $1 AND length(period) = 7",
        account_id,
    )
    for row in counters:
        each = TEMPLATE["input_tokens"] + TEMPLATE["output_tokens"]
        if row["held_tokens"] != held[row["period"]] * each:
            boundary.wrong.append(
                f"{row['period']}: {row['held_tokens']} held for {held[row['period']]} requests"
            )
    if len(rows) != len(told):
        boundary.wrong.append(f"{len(rows)} intents for {len(told)} requests")
    return boundary


async def jump_over_the_month(trial: Trial) -> None:
    """Cross the boundary with clocks that disagree, leave everything open, and let the sweeper end it."""
    trial.traffic.stopped = True
    account_id = UUID(trial.traffic.accounts[0].account_id)
    pool = await asyncpg.create_pool(trial.stand.database_url, min_size=1, max_size=4)
    try:
        key_id = await pool.fetchval("SELECT key_id FROM api_key WHERE account_id = $1", account_id)
        count, seed = (5_000 if trial.full else 600), trial.rng.getrandbits(32)
        boundary = await cross_the_month(pool, account_id, key_id, requests=count, seed=seed)
        trial.expect(not boundary.wrong, f"{len(boundary.wrong)} in a wrong month: {boundary.wrong[:3]}")
        trial.count("requests at the boundary", boundary.requests)
        await pool.execute(
            "UPDATE request_intent SET heartbeat_at = now() - interval '1 hour', delivered_bytes = 9 "
            "WHERE account_id = $1",
            account_id,
        )
    finally:
        await pool.close()


SCENARIOS = (
    Scenario(
        name="F21",
        says="clocks that jump over the month and disagree: every request is in the month of its admission",
        strike=jump_over_the_month,
        load=Load(clients=0),
        accounts=(0, 1),
        short=0,
        full=1,
    ),
)
