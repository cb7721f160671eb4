"""A key that is revoked stops within a second on every worker, for those who have used it a moment ago, too."""

import asyncio
from contextlib import ExitStack
from datetime import timedelta

import httpx2
import psutil
import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus
from gateway.clock import monotonic_s
from gateway.keys import service as keys
from tests.http.asking import bearer
from tests.plugins.cast import PEPPERS
from tests.plugins.gateway import CLOCK

WITHIN_S = 1
CONNECTIONS_MAX = 64
NO_GRACE = timedelta(0)


@pytest.fixture(scope="module")
def two_workers(gateways):
    with gateways.running(workers=2) as running:
        yield running


def workers_on(gateway, ports):
    """The workers of a gateway that serve connections from these local ports."""
    return {
        worker.pid
        for worker in psutil.Process(gateway.process.pid).children(recursive=True)
        for connection in worker.net_connections("tcp4")
        if connection.raddr and connection.raddr.port in ports
    }


@pytest.fixture
def everywhere(two_workers):
    """Clients with one connection each, enough that both workers serve some of them."""
    with ExitStack() as stack:
        clients, ports = [], set()
        while len(workers_on(two_workers, ports)) < 2:
            assert len(clients) < CONNECTIONS_MAX
            client = stack.enter_context(httpx2.Client(base_url=two_workers.url, verify=False))
            with client.stream("GET", "/healthz") as answer:
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
                answer.read()
            clients.append(client)
        yield clients


async def refused_everywhere(clients, person, status):
    """Ask on every connection until all refuse, or a second is over; returns the last statuses."""
    deadline_s = monotonic_s() + WITHIN_S
    statuses = [0]
    while set(statuses) != {status} and monotonic_s() < deadline_s:
        statuses = [client.get("/v1/models", headers=bearer(person)).status_code for client in clients]
        await asyncio.sleep(0)
    return set(statuses)


async def revoke(db, person):
    await keys.revoke_key(db, CLOCK, person.key_id, account_id=person.account_id)


async def suspend(db, person):
    await accounts.set_status(db, person.account_id, AccountStatus.SUSPENDED)


@pytest.mark.parametrize(("stop", "status"), [(revoke, 401), (suspend, 403)])
async def test_what_stops_a_key_stops_it_on_both_workers_within_a_second(everywhere, people, stop, status):
    sari = await people.join("sari")
    for client in everywhere:
        assert client.get("/v1/models", headers=bearer(sari)).status_code == 200
    await stop(people.db, sari)
    assert await refused_everywhere(everywhere, sari, status) == {status}


async def test_a_suspended_account_that_is_resumed_works_again_within_a_second(everywhere, people):
    sari = await people.join("sari")
    await suspend(people.db, sari)
    assert await refused_everywhere(everywhere, sari, 403) == {403}
    await accounts.set_status(people.db, sari.account_id, AccountStatus.ACTIVE)
    assert await refused_everywhere(everywhere, sari, 200) == {200}


async def test_a_rotated_key_without_grace_stops_and_the_new_one_works(everywhere, people):
    sari = await people.join("sari")
    for client in everywhere:
        assert client.get("/v1/models", headers=bearer(sari)).status_code == 200
    async with people.db.acquire() as connection, connection.transaction():
        made = await keys.rotate_key(
            connection, CLOCK, PEPPERS, sari.key_id, account_id=sari.account_id, grace=NO_GRACE
        )
    assert await refused_everywhere(everywhere, sari, 401) == {401}
    headers = {"authorization": f"Bearer {made.text}"}
    assert {client.get("/v1/models", headers=headers).status_code for client in everywhere} == {200}
