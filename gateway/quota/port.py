"""What the meter needs of the limits, whichever engine decides them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.quota.model import Engine, Reservation, ReserveRequest
from gateway.quota.redis_scripts import ScriptCall
from gateway.quota.redis_server import Reply


class Scripts(Protocol):
    """Runs scripts in Redis, whether that is one server or many; ``on_change`` hears whether all of it is up."""

    on_change: list[Callable[[bool, str], None]]

    @property
    def up(self) -> bool:
        """Whether it answers."""
        ...

    def submit(self, call: ScriptCall) -> "asyncio.Future[Reply]":
        """Send a call; ``RedisUnavailable`` at once when nobody is there who could run it."""
        ...

    async def close(self) -> None:
        """Finish the calls under way."""
        ...


class Quota(Protocol):
    """Admits requests; whether Redis or Postgres decided is not the caller's concern."""

    @property
    def engine(self) -> Engine:
        """The engine that decides at the moment."""
        ...

    async def reserve(self, request: ReserveRequest) -> Reservation:
        """Admit a request and hold its tokens, or raise what refuses it; a refusal holds nothing."""
        ...

    def settled(self, request: ReserveRequest, used_tokens: int) -> None:
        """Hear that a request's end was committed; 0 tokens where it was released. Never waits."""
        ...

    def fail_waiting(self, error: Exception) -> None:
        """Refuse those who wait for a database that is gone."""
        ...

    async def close(self) -> None:
        """Wait for reservations under way."""
        ...
