"""One real Postgres for the run, one migrated database for each test worker, emptied between tests.

The cast that every test knows: Sari owns an account, Budi owns another, Citra has none, Dewi operates.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from gateway.db.embedded import EmbeddedPostgres
from gateway.db.migrate import migrate
from gateway.db.pool import Pool, open_pool
from gateway.runtime.settings import Limits

pytest_plugins = [
    "tests.plugins.cast",
    "tests.plugins.billing",
    "tests.plugins.gateway",
    "tests.plugins.portal",
    "tests.plugins.redis",
    "tests.plugins.shop",
    "tests.plugins.paying",
]

EMPTY = """
DO $$
DECLARE r record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR r IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration' LOOP
        EXECUTE format('DELETE FROM %I', r.tablename);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server of this run's own; ``NUSAGATE_TEST_DATABASE_URL`` names another one to use instead."""
    given = os.environ.get("NUSAGATE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="nusagate-test-", dir="/tmp") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        yield server.url
        server.close()


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[], str]:
    """Makes a database with the migrations and returns its address."""

    async def make() -> str:
        name = f"test_{uuid4().hex[:12]}"
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        url = postgres_url.replace("/postgres?", f"/{name}?", 1)
        connection = await asyncpg.connect(url)
        await migrate(connection)
        await connection.close()
        return url

    return lambda: asyncio.run(make())


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], str]) -> str:
    """The database that is emptied between tests."""
    return new_database()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Pool]:
    """A pool on an empty database."""
    pool = await open_pool(database_url, Limits(), application="tests")
    await pool.execute(EMPTY)
    yield pool
    await pool.close()
