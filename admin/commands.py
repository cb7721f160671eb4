"""The commands that stand on all three rooms: everything at once, the portal, and the worker."""

import os
from pathlib import Path

import rich_click as click

from admin.settings import load_portal_settings
from gateway.cli.serving import PORT, check_database, host_option
from gateway.runtime.ports import check_port
from gateway.runtime.serve import serve
from gateway.runtime.settings import load_settings


@click.command(epilog="Example: nusagate dev --port 8080 --data .nusagate")
@click.option("--port", type=PORT, default=8080, show_default=True, help="Where the API listens.")
@click.option("--admin-port", type=PORT, default=8081, show_default=True, help="Where the portal listens.")
@click.option(
    "--worker-port", type=PORT, default=8082, show_default=True, help="Where the worker's health is."
)
@click.option(
    "--simulator-port", type=PORT, default=9100, show_default=True, help="Where the simulator listens."
)
@click.option(
    "--sandbox-port", type=PORT, default=12111, show_default=True, help="Where the Stripe sandbox listens."
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default=".nusagate", show_default=True
)
@click.option("--no-open", is_flag=True, help="Do not open the portal in a browser.")
def dev(
    *,
    port: int,
    admin_port: int,
    worker_port: int,
    simulator_port: int,
    sandbox_port: int,
    data: Path,
    no_open: bool,
) -> None:
    """Run everything on this machine: Postgres, the simulator, a Stripe sandbox, gateway, portal and worker."""
    # Loaded here so that the other commands start without it.
    from admin.dev import Ports, check_ports, run_dev  # noqa: PLC0415

    ports = Ports(
        gateway=port, admin=admin_port, worker=worker_port, simulator=simulator_port, sandbox=sandbox_port
    )
    run_dev(data, check_ports(ports), opens=not no_open)


@click.command(epilog="Example: nusagate worker --port 8082")
@host_option
@click.option("--port", type=PORT, default=8082, show_default=True)
def worker(*, host: str, port: int) -> None:
    """Run the background jobs until SIGTERM; any number of workers may run beside each other."""
    settings = load_settings(os.environ)
    check_port(host, port)
    check_database(settings)
    limit_s = settings.limits.shutdown_timeout_s
    serve("admin.worker:create_worker", host=host, port=port, workers=1, shutdown_timeout_s=limit_s)


@click.command(epilog="Example: nusagate admin --port 8081")
@host_option
@click.option("--port", type=PORT, default=8081, show_default=True)
def admin(*, host: str, port: int) -> None:
    """Serve the developer portal until SIGTERM; any number may run beside each other."""
    settings = load_portal_settings(os.environ)
    check_port(host, port)
    check_database(settings.base)
    limit_s = settings.base.limits.shutdown_timeout_s
    serve("admin.app:create_app", host=host, port=port, workers=1, shutdown_timeout_s=limit_s)


COMMANDS: tuple[click.RichCommand, ...] = (dev, admin, worker)
