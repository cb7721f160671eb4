"""Events: every change of an object becomes one, in v1's form (a snapshot) and in v2's (a reference).

Only v2 knows the errors of meters. The other v2 events mirror a v1 event and are made when a thin
destination asks for their type.
"""

from copy import deepcopy
from typing import Any

from billing.sandbox.clock import rfc3339
from billing.sandbox.deliveries import enqueue
from billing.sandbox.destinations import destinations_for
from billing.sandbox.routing import Call, Route, created_filter, listed, page_of, page_v2
from billing.sandbox.state import Json
from billing.sandbox.world import API_VERSION, World

URLS = {
    "billing.meter": "/v1/billing/meters/",
    "customer": "/v1/customers/",
    "subscription": "/v1/subscriptions/",
    "invoice": "/v1/invoices/",
    "checkout.session": "/v1/checkout/sessions/",
    "dispute": "/v1/disputes/",
}


def emit(world: World, event_type: str, value: Json, *, before: Json | None = None) -> Json:
    """Record a v1 event with a snapshot of the object, and send it where it is wanted.

    ``before`` holds the earlier values of the fields that changed (``previous_attributes``).
    """
    data: Json = {"object": deepcopy(value)}
    if before is not None:
        data["previous_attributes"] = deepcopy(before)
    receivers = destinations_for(world, event_type, thin=False)
    request_id, key = world.request
    event = world.add(
        {
            "id": world.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": world.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": len(receivers),
            "request": {"id": request_id, "idempotency_key": key},
            "type": event_type,
        }
    )
    for receiver in receivers:
        enqueue(world, event, receiver)
    related_url = URLS.get(value["object"])
    if related_url and destinations_for(world, f"v1.{event_type}", thin=True):
        emit_thin(world, f"v1.{event_type}", related=value)
    return event


def emit_thin(world: World, event_type: str, *, related: Json | None, data: Json | None = None) -> Json:
    """Record a v2 event that refers to an object, and send its thin form where it is wanted."""
    event: Json = {
        "id": world.new_id("evt_v2"),
        "object": "v2.core.event",
        "created": rfc3339(world.now()),
        "livemode": False,
        "type": event_type,
    }
    if related is not None:
        url = URLS[related["object"]] + related["id"]
        event["related_object"] = {"id": related["id"], "type": related["object"], "url": url}
    if data is not None:
        event["data"] = data
    world.add(event)
    for receiver in destinations_for(world, event_type, thin=True):
        enqueue(world, event, receiver)
    return event


def changed(value: Json, fresh: dict[str, Any]) -> Json:
    """Set fields of an object and return the earlier values of those that really changed."""
    before = {name: value.get(name) for name, new in fresh.items() if value.get(name) != new}
    value.update(fresh)
    return before


def list_events(world: World, call: Call) -> Json:
    """List v1 events, newest first, of one type or of several."""
    wanted = set(call.fields.texts("types"))
    if only := call.fields.text("type"):
        wanted.add(only)
    created = created_filter(call.fields)
    call.fields.ignore("delivery_success")
    rows = [
        event
        for event in world.table("event").values()
        if created(event) and (not wanted or _is_wanted(event["type"], wanted))
    ]
    return page_of(rows, call, "/v1/events")


def _is_wanted(event_type: str, wanted: set[str]) -> bool:
    """Tell whether a type is listed, itself or by a family such as ``invoice.*``."""
    return event_type in wanted or any(
        event_type.startswith(name[:-1]) for name in wanted if name.endswith(".*")
    )


def retrieve_event(world: World, call: Call) -> Json:
    """Return one v1 event."""
    call.fields.finish()
    return world.find("event", call.id)


def list_thin_events(world: World, call: Call) -> Json:
    """List v2 events, newest first, of one object if asked."""
    object_id, types = call.fields.text("object_id"), call.fields.texts("types")
    rows = [
        event
        for event in reversed(world.table("v2.core.event").values())
        if (object_id is None or event.get("related_object", {}).get("id") == object_id)
        and (not types or event["type"] in types)
    ]
    kept = listed("types", types) | ({"object_id": object_id} if object_id else {})
    return page_v2(rows, call.fields, "/v2/core/events", kept)


def retrieve_thin_event(world: World, call: Call) -> Json:
    """Return one v2 event with its data."""
    call.fields.finish()
    return world.find("v2.core.event", call.id)


ROUTES = [
    Route("GET", "/v1/events", list_events),
    Route("GET", "/v1/events/{id}", retrieve_event),
    Route("GET", "/v2/core/events", list_thin_events),
    Route("GET", "/v2/core/events/{id}", retrieve_thin_event),
]
