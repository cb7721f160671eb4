"""Which server runs a script: the only one there is, or in a Redis Cluster the primary that has the account's slot.

Each server has a link of its own (``gateway.quota.redis_link``), so one that is down takes only its own accounts to Postgres.
A cluster is recognised by asking; where its slots are is asked again whenever a link breaks, which it also does when it is
told that a slot has moved. While slots move or nobody knows where they are, Postgres decides: no answer is followed to
another server, because a call may be half done there.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.errors import NusagateError
from gateway.quota.redis_link import RedisLink
from gateway.quota.redis_scripts import ScriptCall
from gateway.quota.redis_server import CONNECT_TIMEOUT_S, RedisUnavailable, Reply, SlotRange, slots_of, url_at
from gateway.runtime.logging import describe, get_logger
from gateway.runtime.settings import Limits

log = get_logger("redis")

LOOK_EVERY_S = 0.5
SLOTS = 16_384


class Node(msgspec.Struct, frozen=True):
    """Where a server of a cluster listens."""

    host: str
    port: int


class RedisRoutes:
    """Runs scripts on a Redis or a Redis Cluster; ``on_change`` hears whether all of it is up."""

    def __init__(self, url: str, limits: Limits) -> None:
        self.on_change: list[Callable[[bool, str], None]] = []
        self._url = url
        self._limits = limits
        self._seed = self._new_link(url)
        self._nodes: dict[Node, RedisLink] = {}
        self._by_slot: list[RedisLink | None] = []
        self._turn = asyncio.Lock()
        self._told: bool | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether every account's server answers."""
        return all(link is not None and link.up for link in set(self._by_slot or [self._seed]))

    async def open(self) -> None:
        """Try to connect; what is not there is waited for in the background."""
        await self._seed.open()
        try:
            await self._look()
        except Exception:  # whatever is wrong with it, it is said where it is looked at again
            self._look_soon()

    def submit(self, call: ScriptCall) -> "asyncio.Future[Reply]":
        """Send a call to the server of its keys; ``RedisUnavailable`` at once when that one is down."""
        link = self._by_slot[key_slot(call.keys[0])] if self._by_slot else self._seed
        if link is None:
            raise RedisUnavailable
        return link.submit(call)

    async def close(self) -> None:
        """Finish the calls under way and close all connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for link in {self._seed, *self._nodes.values()}:
            await link.close()

    def _new_link(self, url: str) -> RedisLink:
        link = RedisLink(url, self._limits)
        link.on_change.append(self._link_changed)
        return link

    def _link_changed(self, up: bool, cause: str) -> None:  # noqa: FBT001 - the two states of a link
        self._tell(cause)
        if not up:
            self._look_soon()

    def _tell(self, cause: str) -> None:
        up = self.up
        if up is not self._told:
            self._told = up
            for notify in self.on_change:
                notify(up, cause)

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_until_up())

    async def _look_until_up(self) -> None:
        """Ask where slots are until everything answers; once at least, because a link may be up again by then."""
        try:
            while True:
                try:
                    await self._look()
                except (RedisError, OSError, TimeoutError, NusagateError):
                    pass  # Nobody answers; the links try to connect by themselves.
                except Exception as error:  # a reply that nobody expected: no reason to stop looking
                    log.error("redis not usable", **describe(error))
                if self.up:
                    return
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._looking = None

    async def _look(self) -> None:
        """Find out where slots are, and have a link to each primary; nothing changes where it is no cluster."""
        async with self._turn:
            ranges = await self._ask_for_slots()
            if ranges:
                await self._follow(ranges)

    async def _follow(self, ranges: Sequence[SlotRange]) -> None:
        nodes: dict[Node, RedisLink] = {}
        for one in ranges:
            node = Node(one.host, one.port)
            link = nodes.get(node) or self._nodes.get(node)
            if link is None:
                link = self._nodes[node] = self._new_link(url_at(self._url, node.host, node.port))
                await link.open()
            nodes[node] = link
        former = [self._seed, *(self._nodes[node] for node in self._nodes.keys() - nodes.keys())]
        self._nodes = nodes
        self._by_slot = [None] * SLOTS
        for one in ranges:
            here = [nodes[Node(one.host, one.port)]]
            self._by_slot[one.first : one.last + 1] = here * (one.last + 1 - one.first)
        self._tell("slots")
        for link in former:
            await link.close()

    async def _ask_for_slots(self) -> list[SlotRange]:
        """Ask one server after the other, first those that answered last; empty where it is no cluster."""
        unreachable: Exception = RedisUnavailable()
        nodes = sorted(self._nodes, key=lambda node: not self._nodes[node].up)
        for url in (*(url_at(self._url, node.host, node.port) for node in nodes), self._url):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await slots_of(url)
            except (RedisError, OSError, TimeoutError) as error:
                unreachable = error
        raise unreachable
