"""A Redis server as seen through one connection: how it is reached, what it says of itself, and whether it will do."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import hiredis
import msgspec
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

from gateway.errors import ConfigurationError, NusagateError
from gateway.quota.model import Engine
from gateway.quota.rules import moment_of
from gateway.runtime.settings import Limits

CONNECT_TIMEOUT_S = 1
MICROSECONDS_PER_SECOND = 1_000_000
PRIMARY = "master"

Reply: TypeAlias = Any


class RedisUnavailable(NusagateError):
    """Redis did not answer in time, or not as it should."""

    code = "limits_unavailable"


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    version: str
    role: str
    run_id: str
    replication_id: str
    is_cluster: bool

    @property
    def identity(self) -> str:
        """Names this run of this server in this role."""
        return f"{self.run_id}:{self.replication_id}"


class SlotRange(msgspec.Struct, frozen=True):
    """Slots of a cluster, both ends included, and where the primary that has them listens."""

    first: int
    last: int
    host: str
    port: int


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``nusagate doctor`` says about a server; ``faults`` are what makes it unfit."""

    version: str
    role: str
    now: datetime
    persists: bool
    faults: tuple[str, ...]


def make_connection(url: str) -> AbstractConnection:
    """Make one connection, not yet open, to the Redis at an address; ``ConfigurationError`` if it is none."""
    try:
        pool = ConnectionPool.from_url(url, socket_timeout=None, socket_connect_timeout=CONNECT_TIMEOUT_S)
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    except ValueError as error:
        # The text of this error may show parts of the address, and so of its password.
        raise ConfigurationError("NUSAGATE_REDIS_URL is not an address of a Redis") from error
    return connection


def url_at(redis_url: str, host: str, port: int) -> str:
    """Write the address of another server of the same cluster: reached and spoken to in the same way."""
    parts = urlsplit(redis_url)
    scheme = "redis" if parts.scheme == "unix" else parts.scheme
    user, at, _ = parts.netloc.rpartition("@")
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((scheme, f"{user}{at}{place}:{port}", "", parts.query, ""))


async def open_connection(connection: AbstractConnection) -> None:
    """Connect and authenticate; does nothing to a connection that is open."""
    await connection.connect()  # type: ignore[no-untyped-call]


async def exchange(connection: AbstractConnection, commands: Sequence[Sequence[Any]]) -> list[Reply]:
    """Send commands in one pipeline and read their replies; an error among them is raised, and then all are in doubt."""
    packed = b"".join(hiredis.pack_command(tuple(command)) for command in commands)
    await connection.send_packed_command(packed, check_health=False)
    return [await connection.read_response() for _ in commands]


async def server_info(connection: AbstractConnection) -> ServerInfo:
    """Ask a server for its version, its role and its identity."""
    texts = await exchange(connection, [("INFO", "server"), ("INFO", "replication"), ("INFO", "cluster")])
    fields = dict(line.split(":", 1) for text in texts for line in _text(text).splitlines() if ":" in line)
    return ServerInfo(
        version=fields["redis_version"],
        role=fields["role"],
        run_id=fields["run_id"],
        replication_id=fields["master_replid"],
        is_cluster=fields.get("cluster_enabled") == "1",
    )


async def slots_of(redis_url: str) -> list[SlotRange]:
    """Ask a server of a cluster who has which slots; empty where it is no cluster."""
    connection = make_connection(redis_url)
    try:
        await open_connection(connection)
        if not (await server_info(connection)).is_cluster:
            return []
        [reply] = await exchange(connection, [("CLUSTER", "SLOTS")])
    finally:
        await connection.disconnect(nowait=True)
    # A server that does not know its own address yet leaves it empty: it is the one that was asked.
    return [
        SlotRange(first, last, _text(primary[0] or "") or str(connection.host), int(primary[1]))
        for first, last, primary, *_ in reply
    ]


async def engine_in_force(redis_url: str | None, limits: Limits) -> Engine:
    """Say which engine a gateway would decide by now: Redis, if it answers in time and is a primary, or its cluster works."""
    if redis_url is None:
        return Engine.POSTGRES
    connection = make_connection(redis_url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await open_connection(connection)
        async with asyncio.timeout(limits.redis_timeout_s):
            faults = await _faults(connection, await server_info(connection))
    except (RedisError, OSError, TimeoutError):
        return Engine.POSTGRES
    finally:
        await connection.disconnect(nowait=True)
    return Engine.POSTGRES if faults else Engine.REDIS


async def examine(redis_url: str) -> ServerReport:
    """Look a server over; ``RedisUnavailable`` when it cannot be reached."""
    connection = make_connection(redis_url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await open_connection(connection)
            info = await server_info(connection)
            [(seconds, microseconds)] = await exchange(connection, [("TIME",)])
            dumps = await _setting(connection, "save")
            appends = await _setting(connection, "appendonly")
            faults = await _faults(connection, info)
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisUnavailable(f"cannot be reached: {type(error).__name__}") from error
    finally:
        await connection.disconnect(nowait=True)
    return ServerReport(
        version=info.version,
        role=info.role,
        now=moment_of(int(seconds) * MICROSECONDS_PER_SECOND + int(microseconds)),
        persists=bool(dumps) or appends == "yes",
        faults=faults,
    )


async def _faults(connection: AbstractConnection, info: ServerInfo) -> tuple[str, ...]:
    """Say what makes a server unfit; any server of a cluster will do, as long as the whole of it works."""
    if info.is_cluster:
        [state] = await exchange(connection, [("CLUSTER", "INFO")])
        return () if "cluster_state:ok" in _text(state) else ("its cluster does not work",)
    return () if info.role == PRIMARY else ("it is not the primary",)


async def _setting(connection: AbstractConnection, name: str) -> str:
    """Read a setting of the server; some hosts do not tell theirs."""
    try:
        reply = (await exchange(connection, [("CONFIG", "GET", name)]))[0]
    except ResponseError:
        return ""
    values = list(reply.values()) if isinstance(reply, dict) else reply[1:]
    return _text(values[0]) if values else ""


def _text(reply: Reply) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
