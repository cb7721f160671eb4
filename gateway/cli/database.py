"""Preparing the database: its schema, and the rows that an installation starts with."""

from pathlib import Path

import rich_click as click

from gateway.cli.output import emit, json_option
from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.cli.session import CLOCK, connected, transacted
from gateway.db.migrate import migrate as apply_migrations


@click.command(epilog="Example: nusagate migrate")
@json_option
def migrate(*, as_json: bool) -> None:
    """Bring the database's schema up to this version."""
    applied = connected(apply_migrations)
    emit({"applied": applied}, as_json=as_json, note=None if applied else "The schema is up to date.")


@click.command(epilog="Example: nusagate seed --file plans.toml --file prices.toml")
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A TOML file with plans or price books; may be repeated. Without it, the ones that come with Nusagate.",
)
@json_option
def seed(*, files: tuple[Path, ...], as_json: bool) -> None:
    """Write plans and publish price books; doing it again changes nothing."""
    rows = load_seed(files or SEED_FILES)
    transacted(lambda connection: apply_seed(connection, CLOCK, rows))
    document = {
        "plans": [plan.plan_id for plan in rows.plans],
        "price_books": [book.book_id for book in rows.price_books],
    }
    emit(document, as_json=as_json)
