"""``nusagate gateway`` and ``nusagate simulator``: the processes of this room."""

import asyncio
import os
from pathlib import Path

import rich_click as click

from gateway.db.migrate import pending
from gateway.db.pool import open_connection
from gateway.errors import ConfigurationError, NusagateError
from gateway.ledger.spool import Spool
from gateway.runtime.ports import check_port
from gateway.runtime.serve import serve
from gateway.runtime.settings import Settings, load_settings
from gateway.upstream.catalogue import load_catalogue
from gateway.upstream.simulator.serve import serve as serve_simulator

host_option = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
workers_option = click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True)
PORT = click.IntRange(1, 65_535)


class DatabaseNotReady(NusagateError):
    """The database is not ready for this version."""

    code = "database_not_ready"


@click.command(epilog="Example: nusagate gateway --host 0.0.0.0 --workers 4")
@host_option
@click.option("--port", type=PORT, default=8080, show_default=True)
@workers_option
def gateway(*, host: str, port: int, workers: int) -> None:
    """Serve the API until SIGTERM, then finish what is open and stop."""
    settings = load_settings(os.environ)
    load_catalogue(settings.config_path, os.environ)
    Spool(settings.spool_dir, max_batch=1, max_queue=1).probe()
    check_port(host, port)
    check_database(settings)
    serve(
        "gateway.app:create_app",
        host=host,
        port=port,
        workers=workers,
        shutdown_timeout_s=settings.limits.shutdown_timeout_s,
    )


@click.command(epilog="Example: nusagate simulator --port 9100 --journal served.jsonl")
@host_option
@click.option("--port", type=PORT, default=9100, show_default=True)
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Write a line for everything that was served."
)
def simulator(*, host: str, port: int, journal: Path | None) -> None:
    """Serve the model simulator: an OpenAI-compatible upstream whose behaviour a request can script."""
    check_port(host, port)
    serve_simulator(host, port, journal)


def check_database(settings: Settings) -> None:
    """Refuse to start on a database that cannot be reached or is not migrated, in one sentence."""
    missing = asyncio.run(_pending(settings))
    if missing:
        raise DatabaseNotReady(f"The database lacks {', '.join(missing)}; run `nusagate migrate` first.")


async def _pending(settings: Settings) -> list[str]:
    try:
        connection = await open_connection(
            settings.database_url, settings.limits, application="nusagate-start"
        )
    except ValueError as error:
        # The text of this error may show parts of the address, and so of its password.
        raise ConfigurationError("NUSAGATE_DATABASE_URL is not an address of a Postgres database") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ConfigurationError(f"Postgres cannot be reached at NUSAGATE_DATABASE_URL: {reason}") from error
    try:
        return await pending(connection)
    finally:
        await connection.close(timeout=1)
