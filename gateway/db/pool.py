"""Connections to Postgres: opened with limits, and never reused after something went wrong on them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import asyncpg

from gateway.errors import NusagateError
from gateway.runtime.settings import Limits

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)
Db: TypeAlias = "Pool | Connection"
Row: TypeAlias = asyncpg.Record

CONNECT_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000

# What may happen to a database that is well run; anything else is a bug of ours and is not retried.
OPERATIONAL_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.CannotConnectNowError,
    # What the driver raises when a connection dies in the middle of preparing a statement.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
CONTENTION_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
CONTENTION_ATTEMPTS = 5


class DatabaseUnavailable(NusagateError):
    """The database cannot be reached; nothing was changed."""

    code = "limits_unavailable"


UNAVAILABLE: tuple[type[BaseException], ...] = (
    DatabaseUnavailable,
    *OPERATIONAL_ERRORS,
    *CONTENTION_ERRORS,
)
"""What callers see when Postgres is away, whether we knew it before or found out by asking, or lets others go first."""


BY_KEY: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""For a process that asks for rows by their keys and for nothing else: one plan for each statement, whatever the
statistics say. Left to itself Postgres would find one request among the open ones by reading all of them while they
are few, keep that plan when they are many, and plan anew in the middle of the busiest minute."""

BY_RANGE: Mapping[str, str] = {"plan_cache_mode": "force_custom_plan"}
"""For a process that sums over ranges of time, an hour of one account or a year of another: a plan for each question."""


async def open_pool(
    database_url: str, limits: Limits, *, application: str, planning: Mapping[str, str] = MappingProxyType({})
) -> Pool:
    """Open a pool whose statements, locks and idle transactions all have a deadline."""
    return await asyncpg.create_pool(
        database_url,
        min_size=1,
        max_size=limits.database_pool_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=limits.database_timeout_s,
        reset=_keep,
        server_settings={**_server_settings(limits, application), **planning},
    )


async def open_connection(
    database_url: str, limits: Limits, *, application: str
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one connection outside any pool, for listening or for a command."""
    return await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=limits.database_timeout_s,
        server_settings=_server_settings(limits, application),
    )


def _server_settings(limits: Limits, application: str) -> dict[str, str]:
    return {
        "application_name": application,
        "timezone": "UTC",
        "lock_timeout": f"{limits.lock_timeout_s * 1000}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_MS}",
        "jit": "off",
    }


async def _keep(_connection: object) -> None:
    """Give a connection back as it is: we never change a session, and a reset would cost a round trip."""


async def drop_idle(db: Pool) -> None:
    """Drop the connections that nobody uses at the moment; new ones are made when they are needed.

    One to a machine that lost its power looks as good as any other, and whoever sends a statement on it waits for its
    deadline: after an outage, one request after the other, until all of them have been tried. The pool's own way,
    ``expire_connections``, would wait for a farewell on each, without a limit.
    """
    idle: list[Connection] = []
    try:
        # All are taken before one is dropped: a place that became free would be the next to be taken, and connect anew.
        for _ in range(db.get_idle_size()):
            idle.append(await db.acquire(timeout=CONNECT_TIMEOUT_S))  # noqa: PERF401 - what was taken must not get lost
    finally:
        for connection in idle:
            connection.terminate()


def pinger(db: Pool) -> Callable[[], Awaitable[None]]:
    """Make the question that shows whether Postgres answers."""

    async def ping() -> None:
        await db.fetchval("SELECT 1")

    return ping


class AdvisoryLease:
    """Runs jobs while holding their advisory locks; see ``gateway.runtime.jobs.Lease``.

    All locks of a process are held on one connection of its own. On the pool, as many jobs as it has connections could
    each hold a lock and wait for ever for a second connection to work on.
    """

    def __init__(self, database_url: str, limits: Limits) -> None:
        self._database_url = database_url
        self._limits = limits
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    async def __call__(self, lock_id: int, work: Callable[[], Awaitable[object]]) -> bool:
        """Do the work unless another process is doing it; return whether it was done."""
        if not await self._ask("SELECT pg_try_advisory_lock($1)", lock_id):
            return False
        try:
            await work()
        finally:
            await self._ask("SELECT pg_advisory_unlock($1)", lock_id)
        return True

    async def close(self) -> None:
        """Give all locks back."""
        if self._connection is not None:
            self._connection.terminate()

    async def _ask(self, question: str, lock_id: int) -> bool:
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await open_connection(
                    self._database_url, self._limits, application="nusagate-leases"
                )
            return bool(await self._connection.fetchval(question, lock_id))


def is_operational(error: BaseException) -> bool:
    """Tell whether an error is the database's trouble rather than a bug of ours."""
    return isinstance(error, UNAVAILABLE)


def is_poison(error: BaseException) -> bool:
    """Tell whether one bad row may have failed a whole batch."""
    return not is_operational(error)


async def retry_contention(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a transaction again when it lost a deadlock; each attempt starts from nothing."""
    for attempt in range(1, CONTENTION_ATTEMPTS + 1):
        try:
            return await work()
        except CONTENTION_ERRORS:
            if attempt == CONTENTION_ATTEMPTS:
                raise
            await asyncio.sleep(0.005 * attempt)
    raise AssertionError
