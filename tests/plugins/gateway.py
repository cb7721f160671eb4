"""The real gateway as a child process, with a database and a model simulator of its own, for tests from the outside.

Its database is never emptied: every test brings new people, because a gateway may remember old ones.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.cli.seeding import SEED_FOLDER, apply_seed, load_seed
from gateway.clock import SystemClock, monotonic_s
from gateway.db.pool import Pool, open_connection, open_pool
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.runtime.settings import Limits
from gateway.units import Currency
from tests.fakes.processes import ChildProcess, SimulatorProcess, free_port, running_simulator
from tests.fakes.rude_upstream import RudeUpstream, running_rude_upstream
from tests.plugins.cast import PEPPERS, Person

CLOCK = SystemClock()
SETTLED_WITHIN_S = 5
POLL_S = 0.01

PRICED = (
    "nusantara-base",
    "nusantara-responses",
    "failover",
    "impatient",
    "impatient-responses",
    "rude",
    "dead",
    "tiny",
)
PRICES = """
[[price_books]]
book_id = "idr-1"
currency = "idr"
version = 1
effective_from = 2020-01-01T00:00:00Z
""" + "".join(
    f'[price_books.models."{model}"]\ninput_text = 300_000_000\noutput_text = 1_500_000_000\n'
    for model in PRICED
)

CATALOGUE = """
[upstreams.chat]
base_url = "{simulator}"
dialect = "chat"
connect_timeout_s = 2
first_byte_timeout_s = 20
idle_timeout_s = 20

[upstreams.responses]
base_url = "{simulator}"
dialect = "responses"
first_byte_timeout_s = 20
idle_timeout_s = 20

[upstreams.impatient]
base_url = "{simulator}"
dialect = "chat"
first_byte_timeout_s = 0.4
idle_timeout_s = 0.4

[upstreams.impatient-responses]
base_url = "{simulator}"
dialect = "responses"
first_byte_timeout_s = 0.4
idle_timeout_s = 0.4

[upstreams.dead]
base_url = "http://127.0.0.1:{dead_port}/v1"
dialect = "chat"
connect_timeout_s = 1

[upstreams.rude]
base_url = "{rude}"
dialect = "chat"
"""

SERVED_BY = {
    "nusantara-base": ["chat"],
    "nusantara-responses": ["responses"],
    "failover": ["dead", "chat"],
    "dead": ["dead"],
    "unpriced": ["chat"],
    "impatient": ["impatient"],
    "impatient-responses": ["impatient-responses"],
    "rude": ["rude"],
    "tiny": ["chat"],
}
"""The models of the catalogue and their upstreams; ``unpriced`` is in no price book, ``tiny`` writes 8 tokens."""

MAIN_LIMITS = {
    "NUSAGATE_MAX_BODY_BYTES": "200000",
    "NUSAGATE_MAX_EVENT_BYTES": "200000",
    "NUSAGATE_MAX_ANSWER_BYTES": "1000000",
    "NUSAGATE_BODY_TIMEOUT_S": "1",
    "NUSAGATE_DRAIN_TIMEOUT_S": "1",
    "NUSAGATE_SLOW_CLIENT_TIMEOUT_S": "1",
}


class GatewayProcess:
    """One running gateway and where to reach it."""

    def __init__(self, process: ChildProcess, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


class Gateways:
    """Starts gateways on one database and one catalogue, with limits and workers as a test needs them."""

    def __init__(self, folder: Path, database_url: str, config: Path) -> None:
        self._folder = folder
        self._config = config
        self.database_url = database_url

    @contextlib.contextmanager
    def running(
        self, *, workers: int = 1, database_url: str | None = None, **env: str
    ) -> Iterator[GatewayProcess]:
        port = free_port()
        settings = {
            "NUSAGATE_DATABASE_URL": database_url or self.database_url,
            "NUSAGATE_KEY_PEPPER": PEPPERS[1].decode(),
            "NUSAGATE_CONFIG": str(self._config),
            "NUSAGATE_SPOOL_DIR": str(self._folder / f"spool-{port}"),
            "NUSAGATE_SHUTDOWN_TIMEOUT_S": "2",
            **env,
        }
        command = ["gateway", "--port", str(port), "--workers", str(workers)]
        process = ChildProcess(
            [sys.executable, "-c", "from admin.cli import main; main()", *command],
            output=self._folder / f"gateway-{port}.log",
            env=settings,
        )
        try:
            process.wait_for_http(port, "/readyz", deadline_s=30)
            yield GatewayProcess(process, port)
        finally:
            process.stop()


class People:
    """Makes the accounts of one test, and sees in the end that nothing of theirs is held."""

    def __init__(self, db: Pool) -> None:
        self.db = db
        self._accounts: list[UUID] = []

    async def join(
        self,
        name: str,
        *,
        plan: str = "enterprise",
        currency: Currency = Currency.IDR,
        limits: dict[LimitName, int | None] | None = None,
        **scopes: Any,
    ) -> Person:
        """Make an account with one key; by default one that is metered and has no limits."""
        email = f"{name}.{uuid4().hex[:12]}@example.com"
        account = await accounts.create(self.db, CLOCK, email=email, plan_id=plan, currency=currency)
        self._accounts.append(account.account_id)
        if limits:
            await accounts.set_limits(self.db, account.account_id, overrides=limits)
        return await self.another_key(Person(email, account.account_id, UUID(int=0), ""), **scopes)

    async def another_key(self, person: Person, **scopes: Any) -> Person:
        """The same person with one more key."""
        made = await keys.create_key(
            self.db, CLOCK, PEPPERS, account_id=person.account_id, scopes=KeyScopes(**scopes)
        )
        return msgspec.structs.replace(person, key_id=made.key_id, api_key=made.text)

    async def nothing_is_held(self) -> None:
        """Return when no account of the test holds tokens or has requests in flight, or fail after 5 s."""
        deadline_s = monotonic_s() + SETTLED_WITHIN_S
        while open_things := await self._open_things():
            assert monotonic_s() < deadline_s, f"still held after {SETTLED_WITHIN_S} s: {open_things}"
            await asyncio.sleep(POLL_S)

    async def _open_things(self) -> list[tuple[str, int]]:
        rows = await self.db.fetch(
            "SELECT subject_id::text AS whose, held_tokens AS amount FROM quota_counter"
            " WHERE account_id = ANY($1::uuid[]) AND held_tokens <> 0"
            " UNION ALL SELECT account_id::text, in_flight FROM quota_gate"
            " WHERE account_id = ANY($1::uuid[]) AND in_flight <> 0",
            self._accounts,
        )
        return [(row["whose"], row["amount"]) for row in rows]


class Books:
    """What the database says about requests, by the ids that clients were told."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def entry(self, label: str) -> dict[str, Any] | None:
        """The ledger's entry of a request, or ``None``; there is never a second one."""
        rows = await self.db.fetch("SELECT * FROM ledger_entry WHERE request_id = $1", uuid_of(label))
        assert len(rows) <= 1
        return dict(rows[0]) if rows else None

    async def state(self, label: str) -> str | None:
        """Whether a request is open, settled or released; ``None`` if it was never admitted."""
        state: str | None = await self.db.fetchval(
            "SELECT state FROM request_intent WHERE request_id = $1", uuid_of(label)
        )
        return state

    async def ending(self, label: str) -> str | None:
        """How a request ended, charged or not; ``None`` while it is open."""
        reason: str | None = await self.db.fetchval(
            "SELECT end_reason FROM request_intent WHERE request_id = $1", uuid_of(label)
        )
        return reason

    async def closed(self, label: str) -> dict[str, Any] | None:
        """Wait until a request is closed and return its entry, ``None`` if it was released."""
        deadline_s = monotonic_s() + SETTLED_WITHIN_S
        while await self.state(label) == "open":
            assert monotonic_s() < deadline_s, f"{label} is still open"
            await asyncio.sleep(POLL_S)
        return await self.entry(label)

    async def first_of(self, person: Person) -> str:
        """Wait until a person's first request is admitted and return its id."""
        deadline_s = monotonic_s() + SETTLED_WITHIN_S
        while not (labels := await self.requests_of(person)):
            assert monotonic_s() < deadline_s, f"nothing of {person.email} was admitted"
            await asyncio.sleep(POLL_S)
        return labels[0]

    async def requests_of(self, person: Person) -> list[str]:
        """The ids of everything that a person was admitted with, oldest first."""
        rows = await self.db.fetch(
            "SELECT request_id FROM request_intent WHERE account_id = $1 ORDER BY admitted_at, request_id",
            person.account_id,
        )
        return [f"req_{row['request_id'].hex}" for row in rows]

    async def used(self, person: Person) -> int:
        """What a person's account has used this month."""
        used: int | None = await self.db.fetchval(
            "SELECT sum(used_tokens)::bigint FROM quota_counter WHERE subject_id = $1 AND length(period) = 7",
            person.account_id,
        )
        return used or 0


def uuid_of(label: str) -> UUID:
    """The id in the database of a request that clients know as ``req_…``."""
    return UUID(label.removeprefix("req_"))


def write_catalogue(path: Path, simulator: SimulatorProcess, rude: RudeUpstream) -> Path:
    models = "".join(
        f'\n[models."{model}"]\nupstreams = {json.dumps(upstreams)}\nupstream_model = "nusantara-base"\n'
        f"context_window = 32768\nmax_output_tokens = {8 if model == 'tiny' else 1024}\n"
        "bytes_per_token_min = 1\nprompt_overhead_tokens = 64\n"
        for model, upstreams in SERVED_BY.items()
    )
    upstreams = CATALOGUE.format(simulator=simulator.base_url, rude=rude.base_url, dead_port=free_port())
    path.write_text(upstreams + models)
    return path


@pytest.fixture(scope="session")
def simulator(tmp_path_factory) -> Iterator[SimulatorProcess]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(scope="session")
def rude_upstream() -> Iterator[RudeUpstream]:
    with running_rude_upstream() as running:
        yield running


@pytest.fixture(scope="session")
def gateway_database_url(new_database: Callable[[], str], tmp_path_factory) -> str:
    """A database for gateways alone, with the plans of an installation and prices for the test's models."""
    url = new_database()
    prices = tmp_path_factory.mktemp("seed") / "prices.toml"
    prices.write_text(PRICES)
    asyncio.run(_seed(url, prices))
    return url


async def _seed(url: str, prices: Path) -> None:
    connection = await open_connection(url, Limits(), application="tests")
    async with connection.transaction():
        await apply_seed(connection, CLOCK, load_seed([SEED_FOLDER / "plans.toml", prices]))
    await connection.close()


@pytest.fixture(scope="session")
def gateways(gateway_database_url, simulator, rude_upstream, tmp_path_factory) -> Gateways:
    folder = tmp_path_factory.mktemp("gateway")
    config = write_catalogue(folder / "nusagate.toml", simulator, rude_upstream)
    return Gateways(folder, gateway_database_url, config)


@pytest.fixture(scope="session")
def gateway(gateways) -> Iterator[GatewayProcess]:
    """The gateway that most tests ask, with one worker."""
    with gateways.running(**MAIN_LIMITS) as running:
        yield running


@pytest.fixture(scope="session")
def http(gateway) -> Iterator[httpx2.Client]:
    """A plain client of that gateway, for what the official one would hide."""
    with httpx2.Client(base_url=gateway.url, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
async def gateway_db(gateway_database_url) -> AsyncIterator[Pool]:
    pool = await open_pool(gateway_database_url, Limits(), application="tests")
    yield pool
    await pool.close()


@pytest.fixture
async def people(gateway_db) -> AsyncIterator[People]:
    everybody = People(gateway_db)
    yield everybody
    await everybody.nothing_is_held()


@pytest.fixture
def books(gateway_db) -> Books:
    return Books(gateway_db)
