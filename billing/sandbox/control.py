"""The control endpoints under ``/_sandbox/``: time, faults, deliveries, settings, and a look inside.

They have no counterpart at Stripe. All take and answer JSON; a mistake is answered with 400 and says what.

| endpoint | body | answer |
|---|---|---|
| ``POST /_sandbox/reset`` | ``now``: Unix seconds to stop the clock at | ``now``: everything else is forgotten |
| ``GET /_sandbox/state`` | | ``now``, sums per customer and meter, numbers of objects, the latest requests |
| ``POST /_sandbox/clock`` | ``advance_s`` or ``move_to``; ``stop``: true or false | ``now``, ``stopped`` |
| ``POST /_sandbox/faults`` | ``rules``: list of `faults.Fault` | the rules in force |
| ``GET``, ``POST /_sandbox/settings`` | fields of `state.Settings` | all settings |
| ``POST /_sandbox/deliveries/rules`` | ``rules``: list of `faults.DeliveryRule` | the rules in force |
| ``POST /_sandbox/deliveries/release`` | ``order`` fifo, reverse or shuffle; ``seed`` | ``released`` |
| ``POST /_sandbox/deliveries/flush`` | | ``tries``: everything due was tried when this returns |
| ``GET /_sandbox/deliveries`` | | all deliveries with their state and the answers they got |
| ``POST /_sandbox/checkout/{id}`` | ``action`` pay, later, settle, expire; ``card``; ``succeeded`` | the session |
| ``POST /_sandbox/disputes`` | ``charge`` or ``invoice``, ``reason`` | the dispute |
| ``POST /_sandbox/disputes/{id}/close`` | ``outcome`` won or lost | the dispute |
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from billing.sandbox import checkout, deliveries, idempotency
from billing.sandbox.answers import Answer, of_json, of_refusal
from billing.sandbox.charges import close_dispute, open_dispute
from billing.sandbox.deliveries import ReleaseOrder
from billing.sandbox.faults import DeliveryRule, Fault
from billing.sandbox.meter_events import sums_by_customer
from billing.sandbox.payment_methods import GOOD
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Request
from billing.sandbox.sender import Sender
from billing.sandbox.state import Json, Settings
from billing.sandbox.timeline import catch_up
from billing.sandbox.world import World
from gateway.errors import InvalidValue, NusagateError

PREFIX = "/_sandbox/"
SHOWN_REQUESTS = 1_000

T = TypeVar("T")


class ClockMove(msgspec.Struct, forbid_unknown_fields=True):
    """Move the clock ahead by seconds or to a moment, and stop it or let it run."""

    advance_s: int = 0
    move_to: int | None = None
    stop: bool | None = None


class Reset(msgspec.Struct, forbid_unknown_fields=True):
    """Forget everything, and stop the clock at a moment or let it run with the machine's."""

    now: int | None = None


class FaultRules(msgspec.Struct, forbid_unknown_fields=True):
    """The faults to put in force instead of all others."""

    rules: list[Fault]


class DeliveryRules(msgspec.Struct, forbid_unknown_fields=True):
    """The delivery rules to put in force instead of all others."""

    rules: list[DeliveryRule]


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """How to send what was held."""

    order: ReleaseOrder = ReleaseOrder.FIFO
    seed: int = 0


class CheckoutStep(msgspec.Struct, forbid_unknown_fields=True):
    """What happens to a session, as if somebody had used its page."""

    action: str
    card: str = GOOD
    succeeded: bool = True


class DisputeOrder(msgspec.Struct, forbid_unknown_fields=True):
    """A charge to dispute, by its id or by the invoice that it paid."""

    charge: str | None = None
    invoice: str | None = None
    reason: str = "fraudulent"


class DisputeOutcome(msgspec.Struct, forbid_unknown_fields=True):
    """How a dispute ends."""

    outcome: str


class Control:
    """Answers the control endpoints of one world."""

    def __init__(self, world: World, sender: Sender) -> None:
        self._world = world
        self._sender = sender
        self._answers: dict[tuple[str, str], Callable[[Request], Awaitable[Any]]] = {
            ("POST", "reset"): self._reset,
            ("GET", "state"): self._state,
            ("POST", "clock"): self._clock,
            ("POST", "faults"): self._faults,
            ("GET", "settings"): self._settings,
            ("POST", "settings"): self._settings,
            ("GET", "deliveries"): self._deliveries,
            ("POST", "deliveries/rules"): self._delivery_rules,
            ("POST", "deliveries/release"): self._release,
            ("POST", "deliveries/flush"): self._flush,
            ("POST", "disputes"): self._dispute,
        }

    async def answer(self, request: Request) -> Answer:
        """Answer one control request."""
        name = request.path.removeprefix(PREFIX)
        self._world.changes += 1
        try:
            known = self._answers.get((request.method, name))
            if known is not None:
                return of_json(await known(request))
            if request.method == "POST" and name.startswith("checkout/"):
                return of_json(self._checkout(request, name.removeprefix("checkout/")))
            if request.method == "POST" and name.startswith("disputes/") and name.endswith("/close"):
                outcome = _read(request, DisputeOutcome).outcome
                return of_json(close_dispute(self._world, name.split("/")[1], outcome))
        except Refusal as refusal:
            return of_refusal(refusal)
        except (NusagateError, msgspec.DecodeError, ValueError) as problem:
            return of_json({"error": {"type": "invalid_request_error", "message": str(problem)}}, 400)
        return of_json({"error": {"type": "invalid_request_error", "message": f"no {name} here"}}, 404)

    async def _state(self, _: Request) -> Json:
        world = self._world
        return {
            "now": world.clock.now(),
            "sums": sums_by_customer(world),
            "meter_events": len(world.state.meter_events),
            "objects": {kind: len(table) for kind, table in world.state.objects.items()},
            "requests": list(world.requests)[-SHOWN_REQUESTS:],
        }

    async def _reset(self, request: Request) -> Json:
        self._world.reset(stopped_at=_read(request, Reset).now)
        return {"now": self._world.clock.now()}

    async def _clock(self, request: Request) -> Json:
        move = _read(request, ClockMove)
        clock = self._world.clock
        if move.stop is not None:
            clock.stop() if move.stop else clock.run()
        if move.move_to is not None:
            clock.move_to(move.move_to)
        if move.advance_s:
            clock.move_to(clock.now() + move.advance_s)
        catch_up(self._world)
        idempotency.prune(self._world)
        return {"now": clock.now(), "stopped": clock.stopped_at is not None}

    async def _faults(self, request: Request) -> Json:
        self._world.faults.replace(_read(request, FaultRules).rules)
        return {"rules": self._world.faults.rules()}

    async def _settings(self, request: Request) -> Settings:
        if request.method == "POST":
            now = msgspec.to_builtins(self._world.state.settings)
            wanted = msgspec.json.decode(request.body)
            unknown = wanted.keys() - now.keys()
            if unknown:
                raise InvalidValue(f"no such settings: {', '.join(sorted(unknown))}")
            self._world.state.settings = msgspec.convert(now | wanted, Settings)
        return self._world.state.settings

    async def _deliveries(self, _: Request) -> Json:
        return {"deliveries": list(self._world.state.deliveries.values())}

    async def _delivery_rules(self, request: Request) -> Json:
        self._world.delivery_rules = _read(request, DeliveryRules).rules
        return {"rules": self._world.delivery_rules}

    async def _release(self, request: Request) -> Json:
        wanted = _read(request, Release)
        return {"released": deliveries.release(self._world, wanted.order, seed=wanted.seed)}

    async def _flush(self, _: Request) -> Json:
        return {"tries": await self._sender.send_due()}

    async def _dispute(self, request: Request) -> Json:
        order = _read(request, DisputeOrder)
        charge = order.charge or self._world.note(order.invoice or "").get("charge")
        if charge is None:
            raise InvalidValue("name a charge, or an invoice that was paid by one", param="charge")
        return open_dispute(self._world, charge, order.reason)

    def _checkout(self, request: Request, identifier: str) -> Json:
        step = _read(request, CheckoutStep)
        session = self._world.find(checkout.KIND, identifier)
        if step.action == "pay":
            checkout.pay(self._world, session, step.card)
        elif step.action == "later":
            checkout.pay_later(self._world, session)
        elif step.action == "settle":
            checkout.settle_later(self._world, session, succeeded=step.succeeded)
        elif step.action == "expire":
            checkout.expire_session(self._world, session)
        else:
            raise InvalidValue("action is pay, later, settle or expire", param="action")
        return session


def _read(request: Request, wanted: type[T]) -> T:
    return msgspec.json.decode(request.body or b"{}", type=wanted)
