"""The queue of webhook deliveries, and the scripts that duplicate, lose, delay and reorder them.

Stripe promises neither order nor that an event comes once (docs.stripe.com/webhooks), so a receiver is
tested against all of it.
"""

import random
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from billing.sandbox.faults import DeliveryAction
from billing.sandbox.state import Delivery, Json
from billing.sandbox.world import World

MAX_KEPT = 20_000


class ReleaseOrder(StrEnum):
    """The order in which held deliveries are sent."""

    FIFO = "fifo"
    REVERSE = "reverse"
    SHUFFLE = "shuffle"


def enqueue(world: World, event: Json, destination: Json) -> None:
    """Put an event on its way to a destination, as the rules in force have it."""
    delivery = Delivery(world.new_id("dlv"), event["id"], destination["id"], due_at=world.clock.now())
    copies = 0
    for rule in world.delivery_rules:
        if rule.times == 0 or not fnmatchcase(event["type"], rule.event):
            continue
        if rule.times is not None:
            rule.times -= 1
        if rule.action is DeliveryAction.DUPLICATE:
            copies += rule.copies
        elif rule.action is DeliveryAction.LOSE:
            delivery.state = "lost"
        elif rule.action is DeliveryAction.HOLD:
            delivery.state = "held"
        else:
            delivery.due_at += rule.wait_s
    world.state.deliveries[delivery.id] = delivery
    for _ in range(copies):
        twin = msgspec.structs.replace(delivery, id=world.new_id("dlv"), statuses=[])
        world.state.deliveries[twin.id] = twin
    world.delivery_waits.set()
    _forget_old(world)


def due(world: World) -> list[Delivery]:
    """Return the deliveries to try now, in the order in which they were queued."""
    now = world.clock.now()
    return [
        item for item in world.state.deliveries.values() if item.state == "pending" and item.due_at <= now
    ]


def settle(world: World, delivery: Delivery, status: int) -> None:
    """Note what the receiver answered (0 for nothing): done on 2xx, else tried again while tries are left."""
    delivery.statuses.append(status)
    delivery.attempts += 1
    delays_s = world.settings.webhook_retry_delays_s
    if status // 100 == 2:  # noqa: PLR2004 - HTTP's success
        delivery.state = "delivered"
        event = world.table("event").get(delivery.event)
        if event is not None:
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
    elif delivery.attempts > len(delays_s):
        delivery.state = "failed"
    else:
        delivery.due_at = world.clock.now() + delays_s[delivery.attempts - 1]


def release(world: World, order: ReleaseOrder, *, seed: int) -> int:
    """Send what was held, in this order; return how many."""
    held = [item for item in world.state.deliveries.values() if item.state == "held"]
    if order is ReleaseOrder.REVERSE:
        held.reverse()
    elif order is ReleaseOrder.SHUFFLE:
        random.Random(seed).shuffle(held)  # noqa: S311 - repeatable on purpose
    for item in held:
        # Queued anew: the queue's order is the order of sending.
        del world.state.deliveries[item.id]
        item.state = "pending"
        item.due_at = world.clock.now()
        world.state.deliveries[item.id] = item
    return len(held)


def _forget_old(world: World) -> None:
    """Drop the oldest finished deliveries once there are too many."""
    excess = len(world.state.deliveries) - MAX_KEPT
    if excess <= 0:
        return
    done = [item.id for item in world.state.deliveries.values() if item.state not in {"pending", "held"}]
    for identifier in done[:excess]:
        del world.state.deliveries[identifier]
