"""The rows that an installation starts with, read from TOML and written in one transaction.

Repeating it changes nothing. Plans become what the files say; a price book is published once and never changes.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.db.pool import Connection
from gateway.errors import ConfigurationError
from gateway.plans.model import Plan
from gateway.plans.service import upsert_plans
from gateway.prices.model import PriceBook
from gateway.prices.service import publish

SEED_FOLDER = Path(__file__).parents[2] / "deploy" / "seed"
SEED_FILES = (SEED_FOLDER / "plans.toml", SEED_FOLDER / "prices.toml")


class Seed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What seed files hold."""

    plans: tuple[Plan, ...] = ()
    price_books: tuple[PriceBook, ...] = ()


def load_seed(paths: Iterable[Path]) -> Seed:
    """Read seed files as one; ``ConfigurationError`` names the file and the field that is wrong."""
    seeds = [_read(path) for path in paths]
    seed = Seed(
        plans=tuple(plan for seed in seeds for plan in seed.plans),
        price_books=tuple(book for seed in seeds for book in seed.price_books),
    )
    for ids in ([plan.plan_id for plan in seed.plans], [book.book_id for book in seed.price_books]):
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise ConfigurationError(f"{', '.join(sorted(twice))} is there twice")
    return seed


async def apply_seed(connection: Connection, clock: Clock, seed: Seed) -> None:
    """Write a seed; the caller holds the transaction. ``BookConflict`` where published prices would change."""
    await upsert_plans(connection, seed.plans)
    for book in sorted(seed.price_books, key=lambda book: (book.currency, book.version)):
        await publish(connection, clock, book, published_by="seed")


def _read(path: Path) -> Seed:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Seed)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
