"""The cast that every test knows, on seeded plans and prices, and a clock that tests move.

Sari owns an account, Budi owns another, both on the free plan; Citra has none.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from gateway.accounts import service as accounts
from gateway.cli.seeding import SEED_FILES, apply_seed, load_seed
from gateway.clock import SystemClock
from gateway.db.pool import Pool
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.units import Currency

PEPPERS = {1: b"the pepper of the tests"}


class Person(msgspec.Struct, frozen=True):
    """Somebody with an account and a key."""

    email: str
    account_id: UUID
    key_id: UUID
    api_key: str


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def move(self, length: timedelta) -> None:
        self.moment += length


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def peppers() -> dict[int, bytes]:
    return PEPPERS


@pytest.fixture
async def seeded(db: Pool) -> Pool:
    """A database with the plans and prices that an installation starts with."""
    async with db.acquire() as connection, connection.transaction():
        await apply_seed(connection, SystemClock(), load_seed(SEED_FILES))
    return db


@pytest.fixture
async def sari(seeded: Pool) -> Person:
    return await join(seeded, "sari@example.com")


@pytest.fixture
async def budi(seeded: Pool) -> Person:
    return await join(seeded, "budi@example.com")


async def join(db: Pool, email: str) -> Person:
    """Make an account on the free plan with one key."""
    clock = SystemClock()
    account = await accounts.create(db, clock, email=email, plan_id="free", currency=Currency.IDR)
    key = await keys.create_key(db, clock, PEPPERS, account_id=account.account_id, scopes=KeyScopes())
    return Person(email, account.account_id, key.key_id, key.text)
