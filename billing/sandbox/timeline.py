"""What happens when time passes: renewals, finalizations, retries and expiries, each at its own moment."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from billing.sandbox.checkout import expire_session
from billing.sandbox.dunning import collect_or_dun, finalize_and_collect
from billing.sandbox.invoice_lines import period_of
from billing.sandbox.meter_events import report_errors
from billing.sandbox.state import Json
from billing.sandbox.subscription_cycle import INCOMPLETE_S, RENEWED, end_now, expire_incomplete, renew
from billing.sandbox.world import World

MAX_STEPS = 1_000_000


class Due(NamedTuple):
    """Something that should have happened at a moment, in Unix seconds, to an object."""

    at: int
    act: Callable[[World, Json], object]
    value: Json


def catch_up(world: World) -> None:
    """Do everything that has become due, oldest first, as if each were done at its moment."""
    report_errors(world)
    for _ in range(MAX_STEPS):
        waiting = [item for item in _all_due(world) if item.at <= _now_for(world, item.value)]
        if not waiting:
            return
        first = min(item.at for item in waiting)
        for item in waiting:
            if item.at == first:
                world.changes += 1
                with world.at(item.at):
                    item.act(world, item.value)
    raise RuntimeError("time does not catch up")


def _now_for(world: World, value: Json) -> int:
    customer = value.get("customer")
    return world.now_of(world.table("customer").get(customer) if customer else None)


def _all_due(world: World) -> Iterator[Due]:
    for subscription in world.table("subscription").values():
        if subscription["status"] in RENEWED:
            end = period_of(subscription)[1]
            yield Due(min(end, subscription["cancel_at"] or end), _renew_or_cancel, subscription)
        elif subscription["status"] == "incomplete":
            yield Due(subscription["created"] + INCOMPLETE_S, expire_incomplete, subscription)
    for invoice in world.table("invoice").values():
        if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
            yield Due(invoice["automatically_finalizes_at"], finalize_and_collect, invoice)
        elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            yield Due(invoice["next_payment_attempt"], collect_or_dun, invoice)
    for session in world.table("checkout.session").values():
        if session["status"] == "open":
            yield Due(session["expires_at"], expire_session, session)


def _renew_or_cancel(world: World, subscription: Json) -> None:
    """Renew at the period's end, or end earlier where ``cancel_at`` says so."""
    cancel_at = subscription["cancel_at"]
    if cancel_at is not None and cancel_at < period_of(subscription)[1]:
        end_now(world, subscription, reason="cancellation_requested", bill_usage=True)
    else:
        renew(world, subscription)
