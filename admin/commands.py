"""The commands that stand on all three rooms: everything at once, and the worker."""

import os
from pathlib import Path

import rich_click as click

from gateway.cli.serving import PORT, check_database, host_option
from gateway.runtime.serve import serve
from gateway.runtime.settings import load_settings


@click.command(epilog="Example: nusagate dev --port 8080 --data .nusagate")
@click.option("--port", type=PORT, default=8080, show_default=True, help="Where the API listens.")
@click.option(
    "--worker-port", type=PORT, default=8082, show_default=True, help="Where the worker's health is."
)
@click.option(
    "--simulator-port", type=PORT, default=9100, show_default=True, help="Where the simulator listens."
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default=".nusagate", show_default=True
)
def dev(*, port: int, worker_port: int, simulator_port: int, data: Path) -> None:
    """Run everything on this machine: Postgres, the simulator, the gateway and the worker."""
    # Loaded here so that the other commands start without it.
    from admin.dev import check_ports, run_dev  # noqa: PLC0415

    run_dev(data, check_ports(port, worker_port, simulator_port))


@click.command(epilog="Example: nusagate worker --port 8082")
@host_option
@click.option("--port", type=PORT, default=8082, show_default=True)
def worker(*, host: str, port: int) -> None:
    """Run the background jobs until SIGTERM; any number of workers may run beside each other."""
    check_database(load_settings(os.environ))
    serve("admin.worker:create_worker", host=host, port=port, workers=1)


COMMANDS: tuple[click.RichCommand, ...] = (dev, worker)
