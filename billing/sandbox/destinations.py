"""Where events are sent: v1 webhook endpoints (snapshots) and v2 event destinations (thin events)."""

from urllib.parse import urlsplit

from billing.sandbox.clock import rfc3339
from billing.sandbox.fields import Fields, merged_metadata
from billing.sandbox.refusals import ParameterRefusal
from billing.sandbox.routing import Call, Route, listed, page_of, page_v2
from billing.sandbox.state import Json
from billing.sandbox.world import API_VERSION, World

ENDPOINT = "webhook_endpoint"
DESTINATION = "v2.core.event_destination"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
ADDRESS, SECRET = "webhook_endpoint.url", "webhook_endpoint.signing_secret"
MAX_DESTINATIONS = 16
"""Stripe's own limit of webhook endpoints for one account."""


def destinations_for(world: World, event_type: str, *, thin: bool) -> list[Json]:
    """Return the destinations that want this type in this form."""
    wanted = []
    for kind in (ENDPOINT, DESTINATION):
        for place in world.table(kind).values():
            is_thin = place.get("event_payload") == "thin"
            if place["status"] == "enabled" and is_thin == thin and _wants(place, event_type):
                wanted.append(place)
    return wanted


def _wants(place: Json, event_type: str) -> bool:
    return "*" in place["enabled_events"] or event_type in place["enabled_events"]


def address_of(world: World, identifier: str) -> tuple[str, str] | None:
    """Return a destination's address and signing secret; ``None`` once it is gone or disabled."""
    for kind in (ENDPOINT, DESTINATION):
        place = world.table(kind).get(identifier)
        if place is not None and place["status"] == "enabled":
            return world.note(identifier)["url"], world.note(identifier)["secret"]
    return None


def register(world: World, *, url: str, secret: str, thin: bool, events: list[str]) -> Json:
    """Add a destination whose secret is already known, as `nusagate dev` and tests do; one URL and form once."""
    for kind in (ENDPOINT, DESTINATION):
        for place in list(world.table(kind).values()):
            same_form = (place.get("event_payload") == "thin") == thin
            if same_form and world.note(place["id"])["url"] == url:
                del world.table(kind)[place["id"]]
    if thin:
        place = _new_destination(world, "configured at start", events, "thin", url=url, secret=secret)
    else:
        place = _new_endpoint(world, url, events, secret=secret)
    world.note(place["id"])["registered"] = True
    return place


def forget_registered(world: World) -> None:
    """Drop the destinations of an earlier start: whoever starts the sandbox names them anew."""
    for kind in (ENDPOINT, DESTINATION):
        for identifier in list(world.table(kind)):
            if world.note(identifier).get("registered"):
                del world.table(kind)[identifier]


def create_endpoint(world: World, call: Call) -> Json:
    """Add a v1 webhook endpoint; only this answer carries its secret."""
    fields = call.fields
    url = _loopback_url(fields, "url")
    events = _event_types(fields)
    description = fields.text("description")
    metadata = merged_metadata(fields)
    fields.ignore("api_version", "connect")
    fields.finish()
    endpoint = _new_endpoint(world, url, events)
    endpoint.update(description=description, metadata=metadata)
    return {**endpoint, "secret": world.note(endpoint["id"])["secret"]}


def list_endpoints(world: World, call: Call) -> Json:
    """List v1 webhook endpoints."""
    return page_of(world.table(ENDPOINT).values(), call, "/v1/webhook_endpoints")


def retrieve_endpoint(world: World, call: Call) -> Json:
    """Return one v1 webhook endpoint."""
    call.fields.finish()
    return world.find(ENDPOINT, call.id)


def update_endpoint(world: World, call: Call) -> Json:
    """Change a v1 webhook endpoint."""
    fields = call.fields
    endpoint = world.find(ENDPOINT, call.id)
    url = _loopback_url(fields, "url") if fields.has("url") else endpoint["url"]
    events = _event_types(fields) if fields.has("enabled_events") else endpoint["enabled_events"]
    disabled = fields.flag("disabled")
    description = fields.text("description") if fields.has("description") else endpoint["description"]
    metadata = merged_metadata(fields, endpoint["metadata"])
    fields.finish()
    endpoint.update(url=url, enabled_events=events, description=description, metadata=metadata)
    if disabled is not None:
        endpoint["status"] = "disabled" if disabled else "enabled"
    world.note(endpoint["id"])["url"] = url
    return endpoint


def delete_endpoint(world: World, call: Call) -> Json:
    """Remove a v1 webhook endpoint; what is on its way to it is dropped."""
    call.fields.finish()
    endpoint = world.find(ENDPOINT, call.id)
    del world.table(ENDPOINT)[endpoint["id"]]
    return {"id": endpoint["id"], "object": ENDPOINT, "deleted": True}


def create_destination(world: World, call: Call) -> Json:
    """Add a v2 event destination of the webhook type; ``include`` may ask for its secret and address."""
    fields = call.fields
    name = fields.need_text("name")
    events = _event_types(fields)
    payload = fields.choice("event_payload", "thin", "snapshot")
    fields.choice("type", "webhook_endpoint")
    url = _loopback_url(fields.need_group("webhook_endpoint"), "url")
    description = fields.text("description") or ""
    metadata = merged_metadata(fields)
    include = _include(fields, ADDRESS, SECRET)
    fields.ignore("snapshot_api_version", "events_from")
    fields.finish()
    place = _new_destination(world, name, events, payload or "thin", url=url)
    place.update(description=description, metadata=metadata)
    return _shown(world, place, include)


def list_destinations(world: World, call: Call) -> Json:
    """List v2 event destinations, newest first."""
    include = _include(call.fields, ADDRESS)
    rows = [_shown(world, place, include) for place in reversed(world.table(DESTINATION).values())]
    return page_v2(rows, call.fields, "/v2/core/event_destinations", listed("include", include))


def retrieve_destination(world: World, call: Call) -> Json:
    """Return one v2 event destination."""
    include = _include(call.fields, ADDRESS)
    call.fields.finish()
    return _shown(world, world.find(DESTINATION, call.id), include)


def delete_destination(world: World, call: Call) -> Json:
    """Remove a v2 event destination."""
    call.fields.finish()
    place = world.find(DESTINATION, call.id)
    del world.table(DESTINATION)[place["id"]]
    return {"id": place["id"], "object": DESTINATION}


def disable_destination(world: World, call: Call) -> Json:
    """Stop sending to a v2 event destination."""
    call.fields.finish()
    place = world.find(DESTINATION, call.id)
    place.update(
        status="disabled", status_details={"disabled": {"reason": "user"}}, updated=rfc3339(world.now())
    )
    return place


def enable_destination(world: World, call: Call) -> Json:
    """Send to a v2 event destination again."""
    call.fields.finish()
    place = world.find(DESTINATION, call.id)
    place.pop("status_details", None)
    place.update(status="enabled", updated=rfc3339(world.now()))
    return place


def _new_endpoint(world: World, url: str, events: list[str], *, secret: str | None = None) -> Json:
    _refuse_too_many(world)
    endpoint = world.add(
        {
            "id": world.new_id("we"),
            "object": ENDPOINT,
            "api_version": API_VERSION,
            "application": None,
            "created": world.now(),
            "description": None,
            "enabled_events": events,
            "livemode": False,
            "metadata": {},
            "status": "enabled",
            "url": url,
        }
    )
    world.note(endpoint["id"]).update(url=url, secret=secret or world.new_id("whsec"))
    return endpoint


def _new_destination(
    world: World, name: str, events: list[str], payload: str, *, url: str, secret: str | None = None
) -> Json:
    _refuse_too_many(world)
    place = world.add(
        {
            "id": world.new_id("ed"),
            "object": DESTINATION,
            "created": rfc3339(world.now()),
            "description": "",
            "enabled_events": events,
            "event_payload": payload,
            "livemode": False,
            "metadata": {},
            "name": name,
            "status": "enabled",
            "type": "webhook_endpoint",
            "updated": rfc3339(world.now()),
        }
    )
    world.note(place["id"]).update(url=url, secret=secret or world.new_id("whsec"))
    return place


def _shown(world: World, place: Json, include: list[str]) -> Json:
    """Add the fields that v2 shows only on request."""
    note = world.note(place["id"])
    hook = {}
    if ADDRESS in include:
        hook["url"] = note["url"]
    if SECRET in include:
        hook["signing_secret"] = note["secret"]
    return {**place, "webhook_endpoint": hook} if hook else place


def _include(fields: Fields, *known: str) -> list[str]:
    """Read which fields v2 is to show that it else keeps back; the secret only where the destination is made."""
    include = fields.texts("include")
    if not set(include) <= set(known):
        raise ParameterRefusal(f"Invalid include: must be one of {', '.join(known)}", param="include")
    return include


def _event_types(fields: Fields) -> list[str]:
    events = fields.texts("enabled_events")
    if not events:
        raise ParameterRefusal(
            "Missing required param: enabled_events.", param="enabled_events", stripe_code="parameter_missing"
        )
    return events


def _loopback_url(fields: Fields, name: str) -> str:
    url = fields.need_text(name)
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        raise ParameterRefusal(
            "Invalid URL: the sandbox delivers only to http:// addresses of this machine.",
            param=fields.name_of(name),
            stripe_code="url_invalid",
        )
    return url


def _refuse_too_many(world: World) -> None:
    if len(world.table(ENDPOINT)) + len(world.table(DESTINATION)) >= MAX_DESTINATIONS:
        raise ParameterRefusal(f"You have reached the maximum of {MAX_DESTINATIONS} destinations.")


ROUTES = [
    Route("POST", "/v1/webhook_endpoints", create_endpoint),
    Route("GET", "/v1/webhook_endpoints", list_endpoints),
    Route("GET", "/v1/webhook_endpoints/{id}", retrieve_endpoint),
    Route("POST", "/v1/webhook_endpoints/{id}", update_endpoint),
    Route("DELETE", "/v1/webhook_endpoints/{id}", delete_endpoint),
    Route("POST", "/v2/core/event_destinations", create_destination),
    Route("GET", "/v2/core/event_destinations", list_destinations),
    Route("GET", "/v2/core/event_destinations/{id}", retrieve_destination),
    Route("DELETE", "/v2/core/event_destinations/{id}", delete_destination),
    Route("POST", "/v2/core/event_destinations/{id}/disable", disable_destination),
    Route("POST", "/v2/core/event_destinations/{id}/enable", enable_destination),
]
