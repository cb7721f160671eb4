"""The sandbox's world: its state, its clock, and the few things that every noun needs from them."""

import asyncio
import secrets
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from billing.sandbox.clock import VirtualClock
from billing.sandbox.faults import DeliveryRule, FaultBook
from billing.sandbox.limits import LimitBook
from billing.sandbox.refusals import NoSuchObject
from billing.sandbox.state import Json, MeterEvent, Settings, State

MAX_REQUESTS_REMEMBERED = 5_000
API_VERSION = "2026-10-28.endive"


class RequestNote(msgspec.Struct, frozen=True):
    """One request that was answered, as tests and the control page read it back."""

    request_id: str
    method: str
    path: str
    idempotency_key: str | None
    status: int
    """What was answered, or would have been had the connection not been cut."""
    fault: str | None
    replayed: bool


class World:
    """State, clock and behaviour of one sandbox. Everything in here happens on one event loop."""

    def __init__(self, state: State, *, clock: VirtualClock, public_url: str) -> None:
        self.clock = clock
        self.public_url = public_url
        self.changes = 0
        """Rises with everything that happens, so that the file is written only when needed."""
        self.delivery_waits = asyncio.Event()
        """Set when there is something to deliver, so that nobody waits for the next tick."""
        self._begin(state)

    def reset(self, *, stopped_at: int | None) -> None:
        """Forget everything, webhooks too; the clock stands at a moment, or runs with the machine's."""
        self.clock.restart(stopped_at)
        self.changes += 1
        self._begin(State())

    def _begin(self, state: State) -> None:
        self.state = state
        self.faults = FaultBook()
        self.delivery_rules: list[DeliveryRule] = []
        self.limits = LimitBook()
        self.requests: deque[RequestNote] = deque(maxlen=MAX_REQUESTS_REMEMBERED)
        self.keys_in_use: set[str] = set()
        self.request: tuple[str | None, str | None] = (None, None)
        """Id and idempotency key of the request at work, for the events that it causes."""
        self._moment: int | None = None
        self.usage: dict[tuple[str, str], list[MeterEvent]] = defaultdict(list)
        self.by_identifier: dict[str, MeterEvent] = {}
        for event in state.meter_events:
            self.index(event)

    @property
    def settings(self) -> Settings:
        """How this sandbox behaves."""
        return self.state.settings

    def now(self) -> int:
        """Return Unix seconds; while a past moment is caught up with, that moment."""
        return self.clock.now() if self._moment is None else self._moment

    def now_of(self, customer: Json | None) -> int:
        """Return the time that a customer lives in, which its test clock decides if it has one."""
        if self._moment is not None:
            return self._moment
        test_clock = customer.get("test_clock") if customer else None
        if test_clock:
            return int(self.table("test_helpers.test_clock")[test_clock]["frozen_time"])
        return self.clock.now()

    @contextmanager
    def at(self, moment: int) -> Iterator[None]:
        """Act as if it were that moment, for what should have happened then."""
        self._moment, before = moment, self._moment
        try:
            yield
        finally:
            self._moment = before

    def new_id(self, prefix: str) -> str:
        """Make an id like Stripe's."""
        return f"{prefix}_{secrets.token_hex(12)}"

    def table(self, kind: str) -> dict[str, Json]:
        """Return all objects of a kind by id, oldest first."""
        return self.state.objects.setdefault(kind, {})

    def add(self, value: Json) -> Json:
        """Keep a new object under its kind and id."""
        self.table(value["object"])[value["id"]] = value
        return value

    def find(self, kind: str, identifier: str, *, param: str | None = None) -> Json:
        """Return an object, or refuse: 404 for one named by the path, 400 for one named by a parameter."""
        found = self.table(kind).get(identifier)
        if found is None:
            name = kind.rpartition(".")[2]
            raise NoSuchObject(name, identifier, param=param or "id", status=400 if param else 404)
        return found

    def live_customer(self, identifier: str, *, param: str = "customer") -> Json:
        """Return a customer that a parameter names; a deleted one is refused like one that never was."""
        customer = self.find("customer", identifier, param=param)
        if customer.get("deleted"):
            raise NoSuchObject("customer", identifier, param=param)
        return customer

    def note(self, identifier: str) -> Json:
        """Return what the sandbox knows about an object beyond its public fields."""
        return self.state.notes.setdefault(identifier, {})

    def index(self, event: MeterEvent) -> None:
        """Make a meter event findable by meter and customer, and by identifier."""
        self.usage[event.meter, event.customer].append(event)
        self.by_identifier[event.identifier] = event


def money_text(amount: int, currency: str) -> str:
    """Write minor units for a page; IDR has two decimals at Stripe, unlike in most locale libraries."""
    return f"{currency.upper()} {amount // 100:,}.{amount % 100:02d}"


def list_object(url: str, rows: list[Any], *, has_more: bool = False) -> Json:
    """Wrap objects as Stripe's v1 list."""
    return {"object": "list", "data": rows, "has_more": has_more, "url": url}
