"""What a command needs to do its work: the settings, and one connection that lives as long as the command.

Beside a running ``nusagate dev`` no variable has to be set: its database and its secrets are read from
``.nusagate`` in the working directory, unless ``NUSAGATE_DATABASE_URL`` names another database.
"""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.clock import SystemClock
from gateway.db.migrate import MigrationError
from gateway.db.pool import Connection, DatabaseUnavailable, open_connection
from gateway.errors import ConfigurationError
from gateway.runtime.settings import load_limits, load_settings, read_database_url

Result = TypeVar("Result")
Work = Callable[[Connection], Awaitable[Result]]

CLOCK = SystemClock()
DEV_FOLDER = Path(".nusagate")
DATABASE_VARIABLES = ("NUSAGATE_DATABASE_URL", "NUSAGATE_DATABASE_URL_FILE")
UNDEFINED_TABLE = "42P01"
NOT_MIGRATED = "The database has not been prepared for this version: run `nusagate migrate`."


class DevFile(msgspec.Struct, frozen=True):
    """What a command reads of ``dev.json``."""

    database_url: str


def command_environment() -> Mapping[str, str]:
    """Return the variables that hold for a command; those of a running ``nusagate dev`` where no database is named."""
    if any(os.environ.get(name) for name in DATABASE_VARIABLES):
        return os.environ
    try:
        dev = msgspec.json.decode((DEV_FOLDER / "dev.json").read_bytes(), type=DevFile)
        lines = (DEV_FOLDER / "dev.env").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return os.environ
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{DEV_FOLDER} cannot be read: {error}") from error
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    catalogue = DEV_FOLDER / "nusagate.toml"
    if not Path("nusagate.toml").exists() and catalogue.exists():
        settings["NUSAGATE_CONFIG"] = os.environ.get("NUSAGATE_CONFIG") or str(catalogue)
    return {**os.environ, **settings, "NUSAGATE_DATABASE_URL": dev.database_url}


def command_peppers() -> Mapping[int, bytes]:
    """Return the secrets that keys are kept under."""
    return load_settings(command_environment()).peppers


def connected(work: Work[Result]) -> Result:
    """Run some work on a connection of its own; ``DatabaseUnavailable`` or ``MigrationError``."""
    return asyncio.run(_connected(work))


def transacted(work: Work[Result]) -> Result:
    """Run some work in one transaction; like ``connected``."""

    async def in_transaction(connection: Connection) -> Result:
        async with connection.transaction():
            return await work(connection)

    return connected(in_transaction)


def operator() -> str:
    """Name who typed the command, for decisions that are kept."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


async def _connected(work: Work[Result]) -> Result:
    environ = command_environment()
    url, limits = read_database_url(environ), load_limits(environ)
    try:
        connection = await open_connection(url, limits, application="nusagate command")
    except ValueError as error:
        # The text of this error may show parts of the address, and so of its password.
        raise ConfigurationError("NUSAGATE_DATABASE_URL is not an address of a Postgres database") from error
    except Exception as error:
        raise DatabaseUnavailable(
            f"Postgres cannot be reached: {str(error) or type(error).__name__}"
        ) from error
    try:
        return await work(connection)
    except Exception as error:
        if getattr(error, "sqlstate", None) == UNDEFINED_TABLE:
            raise MigrationError(NOT_MIGRATED) from error
        raise
    finally:
        await connection.close(timeout=1)
