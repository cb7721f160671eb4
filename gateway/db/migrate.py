"""Migrations: plain SQL in one sequence, applied once each, safely beside a running older version.

A file is ``NNNN_pre_what.sql`` (additive, before the new code runs) or ``NNNN_post_what.sql`` (after the old
code is gone). One advisory lock keeps two runners apart; every file has a lock timeout, so that a migration
waits for nobody while others wait for it.
"""

import hashlib
import re
from importlib.resources import files

import msgspec

from gateway.db.pool import Connection
from gateway.errors import NusagateError

LOCK_ID = 7_291_640_118
LOCK_TIMEOUT = "5s"
FILE_NAME = re.compile(r"^(\d{4})_(pre|post)_([a-z0-9_]+)\.sql$")
PARTITION_MONTHS_AHEAD = 3

HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(NusagateError):
    """The database's migrations do not fit this version."""

    code = "migration_error"


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The digest of the text, so that a step that was edited after it ran is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """Read all migrations in order; ``MigrationError`` if a name is wrong or a number is missing."""
    found = []
    for file in (files("gateway.db") / "migrations").iterdir():
        match = FILE_NAME.match(file.name)
        if file.name.endswith(".sql") and match is None:
            raise MigrationError(f"{file.name} is not named NNNN_pre_what.sql or NNNN_post_what.sql")
        if match is not None:
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migration numbers must count from 0001 without a gap")
    return found


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing and return the names applied; each file is one transaction."""
    async with connection.transaction():
        # Whoever comes second waits while the first one works, which may be longer than connections wait for a lock.
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_ID, timeout=60)
    try:
        await connection.execute(HISTORY)
        done = {
            row["number"]: row
            for row in await connection.fetch("SELECT number, name, sha256 FROM schema_migration")
        }
        applied = []
        for migration in load_migrations():
            if migration.number in done:
                _check_unchanged(migration, done[migration.number]["sha256"])
                continue
            await _apply(connection, migration)
            applied.append(migration.name)
        await connection.execute("SELECT ensure_ledger_partitions(now(), $1)", PARTITION_MONTHS_AHEAD)
        return applied
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_ID)


async def pending(connection: Connection) -> list[str]:
    """Name the migrations that this version knows and the database has not seen."""
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
        return [migration.name for migration in load_migrations()]
    done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migration")}
    return [migration.name for migration in load_migrations() if migration.number not in done]


def _check_unchanged(migration: Migration, sha256: str) -> None:
    if migration.sha256 != sha256:
        raise MigrationError(f"{migration.name} was changed after it had been applied")


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(migration.sql, timeout=300)
        await connection.execute(
            "INSERT INTO schema_migration (number, name, sha256) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.sha256,
        )
