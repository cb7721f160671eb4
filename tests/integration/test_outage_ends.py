"""When Postgres is back, what waited for it does not wait for its next turn."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from gateway import app
from gateway.app import open_services
from gateway.db.pool import DatabaseUnavailable
from gateway.ledger.model import EndReason
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits, Settings, load_settings
from tests.fakes.toxic import Mode, running_proxy
from tests.integration.test_spool import asked, ended
from tests.plugins.cast import PEPPERS

NEVER_S = 3_600
DEADLINE_S = 20
CATALOGUE = """
[upstreams.nobody]
base_url = "http://127.0.0.1:9/v1"
dialect = "chat"

[models."nusantara-base"]
upstreams = ["nobody"]
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""


async def reached(what) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not what():  # noqa: ASYNC110 - files and flags tell nobody
            await asyncio.sleep(0.02)


@pytest.fixture
def spool(tmp_path) -> Path:
    """Where the gateway of the test spools."""
    return tmp_path / "spool"


@pytest.fixture
def proxy(database_url):
    """The way to the database, which a test can trouble."""
    [folder] = parse_qs(urlsplit(database_url).query)["host"]
    with running_proxy(Path(folder) / ".s.PGSQL.5432") as running:
        yield running


@pytest.fixture
def settings(database_url, proxy, spool, tmp_path) -> Settings:
    """What a gateway is told that reaches its database through the proxy."""
    catalogue, url = tmp_path / "nusagate.toml", urlsplit(database_url)
    catalogue.write_text(CATALOGUE)
    through = url._replace(netloc=f"{url.netloc}127.0.0.1:{proxy.port}", query="")
    return load_settings(
        {
            "NUSAGATE_DATABASE_URL": urlunsplit(through),
            "NUSAGATE_KEY_PEPPER": f"v1:{PEPPERS[1].decode()}",
            "NUSAGATE_CONFIG": str(catalogue),
            "NUSAGATE_SPOOL_DIR": str(spool),
            "NUSAGATE_DATABASE_TIMEOUT_S": "2",
        }
    )


async def test_the_spool_is_replayed_at_once(seeded, sari, proxy, settings, spool, monkeypatch):
    monkeypatch.setattr(app, "REPLAY_EVERY_S", NEVER_S)
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    async with open_services(settings) as services:
        await asyncio.to_thread(proxy.set, Mode.DOWN)
        await reached(lambda: services.meter.refuses)
        await services.meter._ledger.settle(ended(request))
        assert list(spool.glob("*.jsonl"))
        await asyncio.to_thread(proxy.set, Mode.PASS)
        await reached(lambda: not list(spool.glob("*.jsonl")))
    assert await seeded.fetchval("SELECT sum(quota_tokens) FROM ledger_entry") == 15


@pytest.mark.slow
async def test_no_connection_from_before_an_outage_is_used_after_it(sari, proxy, settings):
    """The machine under Postgres lost its power and another took over: nobody said so on the connections to it."""
    size = settings.limits.database_pool_size
    async with open_services(settings) as services:
        await asyncio.gather(*(services.db.execute("SELECT pg_sleep(0.2)") for _ in range(size)))
        await asyncio.to_thread(proxy.set, Mode.LOSE)
        with pytest.raises(DatabaseUnavailable):
            await services.meter.admit(asked(sari))
        assert services.meter.refuses
        await asyncio.to_thread(proxy.set, Mode.PASS)
        await reached(lambda: not services.meter.refuses)
        for _ in range(size):
            assert await services.db.fetchval("SELECT 1") == 1
        # The one that was asked when it was lost has its own deadline, and those who come then wait for that one alone.
        async with asyncio.timeout(DEADLINE_S):
            hold = await services.meter.admit(asked(sari))
            await hold.settle(EndReason.CLIENT_GONE_CANCELLED, None, upstream=None, kept=None, replay=None)


@pytest.mark.parametrize("times", [1, 3])
async def test_what_happens_again_while_work_goes_on_is_worked_off_once_more(times):
    """Whoever was told twice during one turn has one more turn, and none is lost."""
    told, turns, goes_on = [], [], asyncio.Event()

    async def work() -> None:
        turns.append(None)
        await goes_on.wait()

    task = asyncio.create_task(app._every(NEVER_S, work, at_once=told))
    await reached(lambda: told)
    told[0]()
    await reached(lambda: len(turns) == 1)
    for _ in range(times):
        told[0]()
    goes_on.set()
    await reached(lambda: len(turns) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(turns) == 2
