"""Meters: what usage is counted under, and the summaries that read it back.

Only raw meters that sum are offered: a pre-aggregated meter (``event_time_window``) keeps the newest event
of its window and forgets the others, which is no way to bill.
"""

from collections import defaultdict
from decimal import Decimal

from billing.sandbox.events import emit
from billing.sandbox.fields import Fields
from billing.sandbox.refusals import ParameterRefusal, Refusal
from billing.sandbox.routing import Call, Route, page_of
from billing.sandbox.state import DAY_S, HOUR_S, Json, MeterEvent
from billing.sandbox.world import World

KIND = "billing.meter"
MINUTE_S = 60


def create(world: World, call: Call) -> Json:
    """Create a meter; an event name belongs to one active meter."""
    fields = call.fields
    name = fields.need_text("display_name", longest=250)
    event_name = fields.need_text("event_name", longest=100)
    aggregation = fields.need_group("default_aggregation")
    formula = aggregation.choice("formula", "sum", "count", "last")
    mapping, values = fields.group("customer_mapping"), fields.group("value_settings")
    if mapping:
        mapping.choice("type", "by_id")
    customer_key = mapping.need_text("event_payload_key") if mapping else "stripe_customer_id"
    value_key = values.need_text("event_payload_key") if values else "value"
    window = fields.choice("event_time_window", "day", "hour")
    fields.finish()
    if formula != "sum" or window is not None:
        raise Refusal(
            "The sandbox offers only meters that sum raw events.", param="default_aggregation[formula]"
        )
    if find_meter(world, event_name) is not None:
        raise Refusal(
            f"A meter with event_name {event_name} already exists.",
            param="event_name",
            stripe_code="resource_already_exists",
        )
    now = world.now()
    meter = world.add(
        {
            "id": world.new_id("mtr"),
            "object": KIND,
            "created": now,
            "customer_mapping": {"event_payload_key": customer_key, "type": "by_id"},
            "default_aggregation": {"formula": formula},
            "display_name": name,
            "event_name": event_name,
            "event_time_window": None,
            "livemode": False,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": now,
            "value_settings": {"event_payload_key": value_key},
        }
    )
    emit(world, "billing.meter.created", meter)
    return meter


def find_meter(world: World, event_name: str) -> Json | None:
    """Return the meter of an event name, an active one before an archived one."""
    named = [meter for meter in world.table(KIND).values() if meter["event_name"] == event_name]
    return max(named, key=lambda meter: meter["status"] == "active", default=None)


def retrieve(world: World, call: Call) -> Json:
    """Return a meter."""
    call.fields.finish()
    return world.find(KIND, call.id)


def update(world: World, call: Call) -> Json:
    """Rename a meter; nothing else about it can change."""
    meter = world.find(KIND, call.id)
    name = call.fields.text("display_name", longest=250)
    call.fields.finish()
    if name:
        meter.update(display_name=name, updated=world.now())
        emit(world, "billing.meter.updated", meter)
    return meter


def list_meters(world: World, call: Call) -> Json:
    """List meters, of one status if asked."""
    status = call.fields.choice("status", "active", "inactive")
    rows = [meter for meter in world.table(KIND).values() if status in {None, meter["status"]}]
    return page_of(rows, call, "/v1/billing/meters")


def deactivate(world: World, call: Call) -> Json:
    """Archive a meter: its events are refused from now on."""
    return _set_status(world, call, "inactive", world.now(), "billing.meter.deactivated")


def reactivate(world: World, call: Call) -> Json:
    """Bring a meter back."""
    return _set_status(world, call, "active", None, "billing.meter.reactivated")


def _set_status(world: World, call: Call, status: str, deactivated_at: int | None, event: str) -> Json:
    call.fields.finish()
    meter = world.find(KIND, call.id)
    if meter["status"] == status:
        raise Refusal(f"The meter is already {status}.")
    meter.update(status=status, updated=world.now(), status_transitions={"deactivated_at": deactivated_at})
    emit(world, event, meter)
    return meter


def usage_between(world: World, meter: str, customer: str, start: int, end: int) -> Decimal:
    """Sum a customer's visible events of a meter with ``start <= timestamp < end``, in Unix seconds."""
    return sum(
        (Decimal(event.value) for event in _events_between(world, meter, customer, start, end)), Decimal(0)
    )


def _events_between(world: World, meter: str, customer: str, start: int, end: int) -> list[MeterEvent]:
    visible_until = world.clock.now() - world.settings.visibility_delay_s
    return [
        event
        for event in world.usage.get((meter, customer), ())
        if start <= event.timestamp < end and not event.cancelled and event.received_at <= visible_until
    ]


def list_summaries(world: World, call: Call) -> Json:
    """Sum one customer's usage over a range, or over each hour or day in it that has usage, newest first."""
    fields = call.fields
    meter = world.find(KIND, call.id)
    customer = fields.need_text("customer")
    window = fields.choice("value_grouping_window", "hour", "day")
    step_s = {None: MINUTE_S, "hour": HOUR_S, "day": DAY_S}[window]
    start, end = _aligned(fields, "start_time", step_s), _aligned(fields, "end_time", step_s)
    world.find("customer", customer, param="customer")
    if start >= end:
        raise ParameterRefusal("start_time must be before end_time.", param="start_time")
    events = _events_between(world, meter["id"], customer, start, end)
    if window is None:
        rows = [
            _summary(meter, customer, start, end, sum((Decimal(event.value) for event in events), Decimal(0)))
        ]
        return page_of(rows, call, f"/v1/billing/meters/{meter['id']}/event_summaries")
    sums: dict[int, Decimal] = defaultdict(Decimal)
    for event in events:
        sums[event.timestamp - event.timestamp % step_s] += Decimal(event.value)
    rows = [_summary(meter, customer, begin, begin + step_s, sums[begin]) for begin in sorted(sums)]
    return page_of(rows, call, f"/v1/billing/meters/{meter['id']}/event_summaries")


def _aligned(fields: Fields, name: str, step_s: int) -> int:
    moment = fields.need_integer(name)
    if moment % step_s:
        unit = {MINUTE_S: "minute", HOUR_S: "hour", DAY_S: "day"}[step_s]
        raise ParameterRefusal(f"`{name}` must be aligned with {unit} boundaries in UTC.", param=name)
    return moment


def _summary(meter: Json, customer: str, start: int, end: int, value: Decimal) -> Json:
    """Write a summary; the SDK reads ``aggregated_value`` as a float, so callers lose the digits of large sums."""
    return {
        "id": f"mtrsum_{customer[-8:]}{meter['id'][-8:]}{start}{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": value,
        "end_time": end,
        "livemode": False,
        "meter": meter["id"],
        "start_time": start,
    }


ROUTES = [
    Route("POST", "/v1/billing/meters", create),
    Route("GET", "/v1/billing/meters", list_meters),
    Route("GET", "/v1/billing/meters/{id}", retrieve),
    Route("POST", "/v1/billing/meters/{id}", update),
    Route("POST", "/v1/billing/meters/{id}/deactivate", deactivate),
    Route("POST", "/v1/billing/meters/{id}/reactivate", reactivate),
    Route("GET", "/v1/billing/meters/{id}/event_summaries", list_summaries),
]
