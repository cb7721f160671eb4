"""The migrations build exactly the schema that schema.sql shows."""

import asyncio
import subprocess
from pathlib import Path

import asyncpg

from gateway.db.embedded import BIN
from gateway.db.migrate import LOCK_ID, migrate, pending

SCHEMA = Path(__file__).parents[2] / "gateway" / "db" / "schema.sql"


async def fresh_database(postgres_url: str, name: str) -> str:
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"DROP DATABASE IF EXISTS {name}")
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return postgres_url.replace("/postgres?", f"/{name}?", 1)


def dump(url: str) -> list[str]:
    """The schema as pg_dump writes it, without what only a running installation has."""
    text = subprocess.run(
        [BIN / "pg_dump", "--schema-only", "--no-owner", "--exclude-table=schema_migration",
         "--exclude-table=ledger_entry_2*", url],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [
        line for line in text.splitlines() if line and not line.startswith(("--", "\\", "SET ", "SELECT "))
    ]


async def test_the_migrations_build_exactly_schema_sql(postgres_url):
    migrated = await fresh_database(postgres_url, "from_migrations")
    connection = await asyncpg.connect(migrated)
    await migrate(connection)
    await connection.close()
    written = await fresh_database(postgres_url, "from_schema")
    connection = await asyncpg.connect(written)
    await connection.execute(SCHEMA.read_text())
    await connection.close()
    assert dump(migrated) == dump(written)


async def test_migrating_twice_changes_nothing(postgres_url):
    url = await fresh_database(postgres_url, "twice")
    connection = await asyncpg.connect(url)
    assert await pending(connection)
    assert await migrate(connection)
    assert await migrate(connection) == []
    assert await pending(connection) == []
    await connection.close()


async def test_two_runners_at_once_apply_each_migration_once(postgres_url):
    url = await fresh_database(postgres_url, "two_runners")
    connections = [await asyncpg.connect(url) for _ in range(2)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sorted(map(bool, applied)) == [False, True]
    for connection in connections:
        await connection.close()


async def test_a_runner_waits_for_another_longer_than_connections_wait_for_a_lock(postgres_url):
    url = await fresh_database(postgres_url, "second_runner")
    first = await asyncpg.connect(url)
    await first.execute("SELECT pg_advisory_lock($1)", LOCK_ID)
    second = await asyncpg.connect(url, server_settings={"lock_timeout": "1ms"})
    running = asyncio.create_task(migrate(second))
    waiting = """SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted AND waitstart < now() - interval '50 ms')"""
    asked = 0
    while not running.done() and not await first.fetchval(waiting, second.get_server_pid()):
        asked += 1
        assert asked < 100_000
    await first.execute("SELECT pg_advisory_unlock($1)", LOCK_ID)
    assert await running
    await asyncio.gather(first.close(), second.close())
