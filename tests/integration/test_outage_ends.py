"""When Postgres is back, what waited for it does not wait for its next turn."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from gateway import app
from gateway.app import open_services
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits, load_settings
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


async def test_the_spool_is_replayed_at_once(seeded, sari, database_url, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "REPLAY_EVERY_S", NEVER_S)
    catalogue, spool = tmp_path / "nusagate.toml", tmp_path / "spool"
    catalogue.write_text(CATALOGUE)
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    url = urlsplit(database_url)
    [folder] = parse_qs(url.query)["host"]
    with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        through = url._replace(netloc=f"{url.netloc}127.0.0.1:{proxy.port}", query="")
        settings = load_settings(
            {
                "NUSAGATE_DATABASE_URL": urlunsplit(through),
                "NUSAGATE_KEY_PEPPER": f"v1:{PEPPERS[1].decode()}",
                "NUSAGATE_CONFIG": str(catalogue),
                "NUSAGATE_SPOOL_DIR": str(spool),
            }
        )
        async with open_services(settings) as services:
            await asyncio.to_thread(proxy.set, Mode.DOWN)
            await reached(lambda: services.meter.refuses)
            await services.meter._ledger.settle(ended(request))
            assert list(spool.glob("*.jsonl"))
            await asyncio.to_thread(proxy.set, Mode.PASS)
            await reached(lambda: not list(spool.glob("*.jsonl")))
    assert await seeded.fetchval("SELECT sum(quota_tokens) FROM ledger_entry") == 15


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
