"""What pages of usage take on a ledger of a year, and what a metered request costs there; beside an empty ledger.

Filling the ledger takes minutes, so this is measured when it is named: ``--only pages``.
"""

import asyncio
import http.client
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from admin.access.keyring import new_token, token_digest
from gateway.ids import uuid7
from tests.bench.clients import percentile
from tests.bench.machine import children, cpu_s
from tests.bench.many_entries import YEAR, fill
from tests.bench.scenarios import MILLI, Figure, Measured, Pace, _load
from tests.bench.stand import PEPPER, Stand, pinned
from tests.fakes.processes import ChildProcess, free_port

LIMIT_S = 3_600
VISITS = 60
WARM_UP_VISITS = 6
CONNECTIONS = 32
TIMEOUT_S = 30
GOAL_MS = 100
EMAIL = "bench-0@example.com"


class Visit(msgspec.Struct, frozen=True):
    """One page, and with what it is asked for."""

    name: str
    port: int
    path: str
    headers: dict[str, str]


class Timed(msgspec.Struct, frozen=True):
    """What a page takes, in milliseconds: half of its answers, 95 of 100, and its CPU with the database's."""

    p50_ms: float
    p95_ms: float
    cpu_ms: float

    @property
    def said(self) -> str:
        """The figures beside the one that is compared with the goal."""
        return f"p50 {self.p50_ms:.1f} ms, CPU {self.cpu_ms:.1f} ms"


def pages(stand: Stand, pace: Pace) -> list[Figure]:
    """Time the pages and a metered request on an empty ledger, fill it, and time them again."""
    signal.alarm(LIMIT_S)
    token = asyncio.run(let_in(stand.database_url, EMAIL))
    port = free_port()
    portal = start_portal(stand, port)
    try:
        portal.wait_for_http(port, "/readyz", deadline_s=30)
        workers = [portal.pid, *children(portal.pid), stand.gateway]
        visits = visits_of(port, token, stand.ports.gateway, stand.keys[0], datetime.now(UTC))
        asyncio.run(analyse(stand.database_url))
        empty = {visit.name: timed(stand, workers, visit) for visit in visits}
        before = _load(stand, pace, stand.ports.gateway, stand.gateway, connections=CONNECTIONS)
        started = time.monotonic()
        asyncio.run(_fill(stand.database_url, pace.entries))
        filled = Figure(name=f"filling {pace.entries:,} entries", value=time.monotonic() - started, unit="s")
        figures = [filled, *figures_of(stand, workers, visits, empty=empty, entries=pace.entries)]
        after = _load(stand, pace, stand.ports.gateway, stand.gateway, connections=CONNECTIONS)
        return [*figures, *_cost(before, after, pace.entries)]
    finally:
        portal.stop()


def start_portal(stand: Stand, port: int) -> ChildProcess:
    """Start the portal on the core of what is measured."""
    arguments = [sys.executable, "-m", "admin.cli", "admin", "--port", str(port)]
    environ = {
        "NUSAGATE_DATABASE_URL": stand.database_url,
        "NUSAGATE_KEY_PEPPER": f"v1:{PEPPER}",
        "NUSAGATE_SESSION_SECRET": "v1:the session secret of the benchmark",
        "NUSAGATE_SMTP_URL": "page:",
        "NUSAGATE_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    command = [*pinned(frozenset({stand.cores.subject})), *arguments]
    return ChildProcess(command, output=stand.folder / "portal.log", env=environ)


def visits_of(port: int, token: str, api_port: int, key: str, now: datetime) -> list[Visit]:
    """List what is asked for, as the person of the session and with the key."""
    cookie, bearer = {"cookie": f"nusagate_session={token}"}, {"authorization": f"Bearer {key}"}
    year = f"range=custom&start={now - YEAR + timedelta(days=1):%Y-%m-%d}&end={now:%Y-%m-%d}"
    portal = {
        "usage page, this month by model": "/usage",
        "usage page, 30 days by key": "/usage?range=30d&by=key",
        "usage page, 30 days by end user": "/usage?range=30d&by=user",
        "usage page, 7 days by the hour": "/usage?range=7d&by=status&step=hour",
        "usage page, a year by the day": f"/usage?{year}",
        "usage CSV, this month by model": "/usage.csv",
        "requests page": "/usage/requests",
        "requests page, one rare ending": "/usage/requests?model=smollm2-135m&status=client_gone_cancelled",
    }
    return [
        *(Visit(name, port, path, cookie) for name, path in portal.items()),
        Visit("GET /v1/usage, this month by model", api_port, "/v1/usage", bearer),
    ]


def timings(visit: Visit) -> list[float]:
    """Ask one after the other on one connection, and return the milliseconds of each whole answer."""
    taken = []
    with closing(http.client.HTTPConnection("127.0.0.1", visit.port, timeout=TIMEOUT_S)) as connection:
        for number in range(WARM_UP_VISITS + VISITS):
            start = time.perf_counter()
            connection.request("GET", visit.path, headers=visit.headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"{visit.path} was answered with {answer.status}")
            if number >= WARM_UP_VISITS:
                taken.append((time.perf_counter() - start) * MILLI)
    return taken


def timed(stand: Stand, workers: Sequence[int], visit: Visit) -> Timed:
    """Time the visits to a page, and the CPU that they cost the process that serves it and the database."""
    before = sum(map(cpu_s, workers)) + stand.database_cpu_s()
    taken = timings(visit)
    used = sum(map(cpu_s, workers)) + stand.database_cpu_s() - before
    return Timed(percentile(taken, 50), percentile(taken, 95), used * MILLI / (WARM_UP_VISITS + VISITS))


def figures_of(
    stand: Stand, workers: Sequence[int], visits: Sequence[Visit], *, empty: dict[str, Timed], entries: int
) -> list[Figure]:
    """Time the visits again, and show each beside what it took on an empty ledger."""
    return [
        Figure(
            name=f"{visit.name}, {entries:,} entries, p95",
            value=full.p95_ms,
            unit="ms",
            goal=f"<= {GOAL_MS}",
            note=f"{full.said}; empty: p95 {empty[visit.name].p95_ms:.1f} ms, {empty[visit.name].said}",
        )
        for visit in visits
        for full in [timed(stand, workers, visit)]
    ]


async def let_in(database_url: str, email: str) -> str:
    """Give an account a person who is logged in; returns the session's token."""
    token, now = new_token(), datetime.now(UTC)
    connection = await asyncpg.connect(database_url)
    try:
        account_id = await connection.fetchval("SELECT account_id FROM account WHERE email = $1", email)
        person_id = await connection.fetchval(
            "INSERT INTO person (person_id, account_id, email, password_hash, created_at, password_changed_at)"
            " VALUES ($1, $2, $3, '-', $4, $4) RETURNING person_id",
            uuid7(), account_id, email, now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO portal_session (session_id, token_digest, person_id, stage, network, agent, created_at,"
            " seen_at, confirmed_at, expires_at) VALUES ($1, $2, $3, 'open', '', '', $4, $4, $4, $5)",
            uuid7(), token_digest(token), person_id, now, now + timedelta(days=1),
        )  # fmt: skip
    finally:
        await connection.close()
    return token


async def analyse(database_url: str) -> None:
    """Let the planner know how small everything is, as after a first night's maintenance."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("VACUUM (ANALYZE)", timeout=LIMIT_S)
    finally:
        await connection.close()


async def _fill(database_url: str, entries: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT account_id FROM account ORDER BY email = $1 DESC, email", EMAIL)
    finally:
        await connection.close()
    accounts: list[UUID] = [row["account_id"] for row in rows]
    await fill(database_url, accounts, entries=entries, end=datetime.now(UTC))


def _cost(before: Measured, after: Measured, entries: int) -> list[Figure]:
    """Compare a metered request on a full ledger with one on an empty ledger."""
    name = f"full path, {CONNECTIONS} connections"
    empty, full = before.cpu_us + before.database_us, after.cpu_us + after.database_us
    return [
        before.figure(f"{name}, empty ledger"),
        after.figure(f"{name}, {entries:,} entries"),
        Figure(
            name="CPU of a metered request, full ledger over empty",
            value=full / empty,
            unit="ratio",
            goal="<= 1.1",
            note=f"{full:.0f} us and {empty:.0f} us, gateway and Postgres together",
        ),
    ]
