"""What the meter needs of the limits, whichever engine decides them."""

from typing import Protocol

from gateway.quota.model import Engine, Reservation, ReserveRequest


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
