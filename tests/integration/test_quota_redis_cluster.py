"""Limits in a Redis Cluster of three servers: every account on its own, and nothing lost when slots move or servers die."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
import pytest
from redis.crc import key_slot

from gateway.ids import uuid7
from gateway.ledger import store as ledger_store
from gateway.ledger.model import EndReason, Settlement, UsageSource
from gateway.quota.model import Engine, InsufficientQuota, ReserveRequest
from gateway.quota.redis_quota import RedisQuota, open_quota
from gateway.quota.redis_scripts import state_key
from gateway.quota.redis_server import engine_in_force, examine
from gateway.runtime.settings import Limits
from tests.fakes.processes import free_port
from tests.plugins.cast import Person, join
from tests.plugins.redis import RedisProcess

SLOTS = 16_384
SERVERS = 3
PEOPLE = 24
DEADLINE_S = 20
PATIENT = msgspec.structs.replace(Limits(), redis_timeout_ms=5_000)
MONTH_LIMIT = 350
"""Room for three requests: one is settled, one is held, and one decides who decides."""


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self, new_redis: Callable[..., RedisProcess]) -> None:
        self._new_redis = new_redis
        self.servers = [self.add() for _ in range(SERVERS)]
        for number, server in enumerate(self.servers):
            server.ask(
                "CLUSTER",
                "ADDSLOTSRANGE",
                str(number * SLOTS // SERVERS),
                str((number + 1) * SLOTS // SERVERS - 1),
            )
            self.introduce(server)
        self.wait_until_it_works()

    def add(self) -> RedisProcess:
        """Start a server that could be a part of the cluster; those who live serve on when one dies."""
        return self._new_redis(
            "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "500",
            "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0",
        )  # fmt: skip

    def introduce(self, server: RedisProcess) -> None:
        """Make a server known to the others."""
        first = self.servers[0]
        bus = first.ask("CONFIG", "GET", "cluster-port").split()[-1]
        server.ask("CLUSTER", "MEET", "127.0.0.1", str(first.port), bus)

    def wait_until_it_works(self) -> None:
        def works(server: RedisProcess) -> bool:
            told = server.ask("CLUSTER", "INFO")
            return "cluster_state:ok" in told and f"cluster_size:{SERVERS}" in told

        wait_for(lambda: all(map(works, self.servers)))

    def home_of(self, person: Person) -> RedisProcess:
        """The server that has an account's slot."""
        return self.servers[key_slot(state_key(person.account_id)) * SERVERS // SLOTS]

    def replica_of(self, primary: RedisProcess) -> RedisProcess:
        """Add a server that follows a primary, and wait until it knows all that the primary knows."""
        replica = self.add()
        self.introduce(replica)
        node = primary.ask("CLUSTER", "MYID")
        wait_for(lambda: node in replica.ask("CLUSTER", "NODES"))
        replica.ask("CLUSTER", "REPLICATE", node)
        wait_for(lambda: "master_link_status:up" in replica.ask("INFO", "replication"))
        wait_for(lambda: "cluster_state:ok" in replica.ask("CLUSTER", "INFO"))
        return replica

    def move(self, slot: int, server: RedisProcess) -> None:
        """Give a slot to a server, as an operator does who rebalances; what is in it goes away."""
        node = server.ask("CLUSTER", "MYID")
        for one in self.servers:
            if one is not server:
                one.ask("FLUSHALL")
        for one in (server, *self.servers):
            one.ask("CLUSTER", "SETSLOT", str(slot), "NODE", node)


def wait_for(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


async def decides(quota: RedisQuota, engine: Engine) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while quota.engine is not engine:  # noqa: ASYNC110 - links tell the gateway, and nobody else
            await asyncio.sleep(0.02)


@pytest.fixture
def cluster(new_redis) -> Iterator[Cluster]:
    return Cluster(new_redis)


@pytest.fixture
async def new_quota(seeded) -> AsyncIterator[Callable[..., object]]:
    """Opens the limits of one gateway process on an address."""
    made = []

    async def make(url: str):
        made.append(await open_quota(seeded, PATIENT, url))
        return made[-1]

    yield make
    for quota in made:
        await quota.close()


@pytest.fixture
async def people(seeded) -> list[Person]:
    """Enough accounts that every server has some."""
    return [await join(seeded, f"person{number}@example.com") for number in range(PEOPLE)]


def ask(person: Person) -> ReserveRequest:
    return ReserveRequest(
        request_id=uuid7(), account_id=person.account_id, key_id=person.key_id, model="nusantara-base",
        endpoint="/v1/responses", stream=False, plan_id="free", billable=False, currency="idr", input_tokens=10,
        output_tokens=90, output_min=90, choices=1, deadline_s=600, month_limit=MONTH_LIMIT,
    )  # fmt: skip


async def serve(db, quota: RedisQuota, person: Person) -> None:
    """Admit a request and settle all that was reserved for it."""
    request = ask(person)
    await quota.reserve(request)
    ended = Settlement(
        request_id=request.request_id, account_id=request.account_id, entry_id=uuid7(), released=False,
        end_reason=EndReason.COMPLETED, upstream=None, duration_ms=1, output_text_tokens=100,
        usage_source=UsageSource.UPSTREAM,
    )  # fmt: skip
    await ledger_store.settle(db, [ended])
    quota.settled(request, 100)


async def fence_of(db, person: Person) -> int:
    """Moves with every admission that Postgres decides, and every time an account is read for Redis."""
    fence: int = await db.fetchval("SELECT fence FROM quota_gate WHERE account_id = $1", person.account_id)
    return fence


async def by_redis(db, quota: RedisQuota, person: Person) -> bool:
    """Admit a request and say whether Redis decided, with what it knew already."""
    before = await fence_of(db, person)
    await quota.reserve(ask(person))
    return await fence_of(db, person) == before


async def is_full(quota: RedisQuota, person: Person) -> bool:
    """Whether the account has no room for another request of the same size."""
    try:
        await quota.reserve(ask(person))
    except InsufficientQuota:
        return True
    return False


async def fill(quota: RedisQuota, person: Person) -> None:
    """Admit requests until there is no room, and see that it was not too many."""
    admitted = 0
    while not await is_full(quota, person):
        admitted += 1
    assert admitted <= MONTH_LIMIT // 100 - 1


async def test_every_server_decides_for_its_own_accounts(seeded, cluster, new_quota, people):
    quota = await new_quota(cluster.servers[0].url)
    for person in people:
        await serve(seeded, quota, person)
    assert quota.engine is Engine.REDIS
    assert {cluster.home_of(person).port for person in people} == {server.port for server in cluster.servers}
    assert all([await by_redis(seeded, quota, person) for person in people])
    for person in people:
        assert cluster.home_of(person).ask("HGET", state_key(person.account_id).decode(), "fence") != ""
        await fill(quota, person)


async def test_any_server_of_it_can_be_named(seeded, cluster, new_quota, people):
    replica = cluster.replica_of(cluster.servers[1])
    quota = await new_quota(replica.url)
    await decides(quota, Engine.REDIS)
    for person in people:
        await serve(seeded, quota, person)
    assert all([await by_redis(seeded, quota, person) for person in people])
    assert await engine_in_force(replica.url, Limits()) is Engine.REDIS
    assert (await examine(replica.url)).faults == ()


async def test_a_server_that_dies_takes_only_its_accounts_to_postgres(seeded, cluster, new_quota, people):
    quota = await new_quota(cluster.servers[0].url)
    for person in people:
        await serve(seeded, quota, person)
    dead = cluster.servers[2]
    dead.kill()
    decided = {person.email: await by_redis(seeded, quota, person) for person in people}
    assert decided == {person.email: cluster.home_of(person) is not dead for person in people}
    assert quota.engine is Engine.POSTGRES
    dead.start()
    await decides(quota, Engine.REDIS)
    for person in people:
        await fill(quota, person)


async def test_a_replica_that_takes_over_is_found_and_knows_no_other_limit(
    seeded, cluster, new_quota, people
):
    former = cluster.servers[2]
    replica = cluster.replica_of(former)
    quota = await new_quota(cluster.servers[0].url)
    for person in people:
        await serve(seeded, quota, person)
    former.kill()
    replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    moved = next(person for person in people if cluster.home_of(person) is former)
    await quota.reserve(ask(moved))
    await decides(quota, Engine.REDIS)
    assert not await by_redis(
        seeded, quota, moved
    )  # It is read anew: the copy may be older than what was admitted.
    for person in people:
        await fill(quota, person)
    assert replica.ask("HGET", state_key(moved.account_id).decode(), "fence") != ""


async def test_a_slot_that_moves_is_followed(seeded, cluster, new_quota, people):
    quota = await new_quota(cluster.servers[0].url)
    mover = next(person for person in people if cluster.home_of(person) is cluster.servers[0])
    await serve(seeded, quota, mover)
    cluster.move(key_slot(state_key(mover.account_id)), cluster.servers[1])
    assert not await by_redis(seeded, quota, mover)
    await decides(quota, Engine.REDIS)
    await fill(quota, mover)
    assert cluster.servers[1].ask("HGET", state_key(mover.account_id).decode(), "fence") != ""


async def test_a_cluster_that_comes_later_is_found(seeded, new_redis, new_quota, sari):
    server = new_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", str(SLOTS - 1))
    server.kill()
    quota = await new_quota(server.url)
    assert quota.engine is Engine.POSTGRES
    await serve(seeded, quota, sari)
    server.start()
    await decides(quota, Engine.REDIS)
    await fill(quota, sari)
    assert server.ask("HGET", state_key(sari.account_id).decode(), "fence") != ""


async def test_without_its_slots_a_cluster_is_not_believed(new_redis):
    server = new_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    assert (await examine(server.url)).faults == ("its cluster does not work",)
    assert await engine_in_force(server.url, Limits()) is Engine.POSTGRES
