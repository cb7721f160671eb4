"""Whole gateways with Redis: the limits hold over several workers, whatever Redis does, and everybody is told which engine decides."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from gateway.accounts.model import LimitName
from gateway.clock import monotonic_s
from tests.plugins.cast import PEPPERS, Person

pytestmark = pytest.mark.slow


@pytest.fixture
def redis(new_redis):
    return new_redis()


@pytest.fixture
def fronted(gateways, redis):
    with gateways.running(workers=2, NUSAGATE_REDIS_URL=redis.url) as running:
        yield running


def ask(url: str, person: Person) -> int:
    body = {"model": "nusantara-base", "messages": [{"role": "user", "content": "Halo"}], "max_tokens": 100}
    headers = {"authorization": f"Bearer {person.api_key}"}
    return httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers=headers, timeout=30, verify=False
    ).status_code


def engine_of(url: str, person: Person) -> str:
    headers = {"authorization": f"Bearer {person.api_key}"}
    usage = httpx2.get(f"{url}/v1/usage", headers=headers, timeout=30, verify=False).json()
    return usage["month"]["engine"]


def until_engine(url: str, person: Person, engine: str) -> None:
    """Return when several answers in a row, by whichever worker, name the engine."""
    deadline_s = monotonic_s() + 10
    while [engine_of(url, person) for _ in range(8)] != [engine] * 8:
        assert monotonic_s() < deadline_s, f"the engine is not {engine}"
        ask(url, person)


def command(database_url: str, redis_url: str, *words: str) -> dict:
    environ = {
        "NUSAGATE_DATABASE_URL": database_url,
        "NUSAGATE_REDIS_URL": redis_url,
        "NUSAGATE_KEY_PEPPER": PEPPERS[1].decode(),
    }
    arguments = [sys.executable, "-c", "from admin.cli import main; main()", *words, "--json"]
    finished = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(finished.stdout)


async def test_two_workers_share_one_limit_through_every_fault(fronted, redis, people, books):
    sari = await people.join(
        "sari", plan="free", limits={LimitName.REQUESTS_PER_MINUTE: None, LimitName.CONCURRENCY: 2}
    )
    budi = await people.join("budi")
    until_engine(fronted.url, budi, "redis")
    statuses = []
    for fault in (lambda: None, redis.kill, redis.start, lambda: redis.ask("FLUSHALL")):
        fault()
        with ThreadPoolExecutor(8) as pool:
            statuses += pool.map(lambda _: ask(fronted.url, sari), range(60))
    assert set(statuses) <= {200, 429}
    assert await books.used(sari) <= 10_000
    await people.nothing_is_held()


async def test_everybody_is_told_which_engine_decides(fronted, redis, people, gateways):
    sari = await people.join("sari")
    show = ("quota", "show", "--account", str(sari.account_id))
    until_engine(fronted.url, sari, "redis")
    assert ask(fronted.url, sari) == 200
    assert command(gateways.database_url, redis.url, *show)["engine"] == "redis"
    redis.kill()
    until_engine(fronted.url, sari, "postgres")
    assert ask(fronted.url, sari) == 200
    assert command(gateways.database_url, redis.url, *show)["engine"] == "postgres"
    redis.start()
    until_engine(fronted.url, sari, "redis")
    metrics = httpx2.get(f"{fronted.url}/metrics", timeout=10, verify=False).text
    assert re.search(r'nusagate_quota_engine\{engine="redis"\} [12]\.0', metrics)
    assert re.search(r'nusagate_quota_engine_switches_total\{engine="postgres"\} [12]\.0', metrics)
    changes = [line for line in fronted.process.output.splitlines() if "quota engine changed" in line]
    assert [json.loads(line)["engine"] for line in changes].count("postgres") == 2
