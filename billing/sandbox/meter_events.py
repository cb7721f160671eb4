"""Meter events on both of Stripe's APIs: their checks, their identifiers, and how one is taken back.

Both APIs feed one store. A refusal's wording and codes are Stripe's, because callers must tell "you sent
this before" from everything else and v1 gives that no code:

* v1: HTTP 400, no ``code``, "An event already exists with identifier …";
* v2: HTTP 400, ``code: duplicate_meter_event``.
"""

import re
from decimal import Decimal

import msgspec

from billing.sandbox.clock import from_rfc3339, rfc3339
from billing.sandbox.events import emit_thin
from billing.sandbox.fields import Fields
from billing.sandbox.meters import find_meter
from billing.sandbox.refusals import NoSuchObject, ParameterRefusal, Refusal, Unauthenticated
from billing.sandbox.routing import Call, Route
from billing.sandbox.state import DAY_S, Json, MeterError, MeterEvent
from billing.sandbox.world import World

LONGEST_IDENTIFIER = 100
LONGEST_EVENT_NAME = 100
OLDEST_S = 35 * DAY_S
NEWEST_S = 5 * 60
UNIQUE_S = DAY_S
"""How long an identifier stays taken: "a rolling period of at least 24 hours", here exactly that."""
CANCELLABLE_S = DAY_S
SESSION_S = 15 * 60
ERROR_PAGES = "https://docs.stripe.com/error-codes"
STREAM_BATCH = 100
VALUE = re.compile(r"-?\d{1,15}(\.\d{1,12})?")
MAX_SAMPLES = 5


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with an event: the code of asynchronous reports, v2's code if it checks this at once."""

    code: str
    message: str
    v2_code: str | None = None
    meter: str | None = None


class Draft(msgspec.Struct, frozen=True):
    """A meter event as it was sent; ``timestamp`` is Unix seconds."""

    event_name: str
    payload: dict[str, str]
    identifier: str
    timestamp: int


def create_v1(world: World, call: Call) -> Json:
    """Take a meter event; what v1 refuses at once is a matter of ``synchronous_validation``."""
    draft = _draft(world, call.fields, call.fields.integer("timestamp"))
    if _is_taken(world, draft.identifier):
        raise Refusal(f"An event already exists with identifier {draft.identifier}.")
    problem = _problem(world, draft)
    if problem and world.settings.synchronous_validation:
        raise _v1_refusal(draft, problem)
    _keep(world, draft, problem)
    return {
        "object": "billing.meter_event",
        "created": world.now(),
        "event_name": draft.event_name,
        "identifier": draft.identifier,
        "livemode": False,
        "payload": draft.payload,
        "timestamp": draft.timestamp,
    }


def create_v2(world: World, call: Call) -> Json:
    """Take a meter event; v2 checks meter and payload at once, customer and time later."""
    draft = _draft(world, call.fields, _moment(call.fields))
    if _is_taken(world, draft.identifier):
        raise Refusal(
            f"An event already exists with identifier {draft.identifier}.",
            stripe_code="duplicate_meter_event",
        )
    problem = _problem(world, draft)
    if problem and problem.v2_code:
        raise Refusal(problem.message, stripe_code=problem.v2_code)
    _keep(world, draft, problem)
    return {
        "object": "v2.billing.meter_event",
        "created": rfc3339(world.now()),
        "event_name": draft.event_name,
        "identifier": draft.identifier,
        "livemode": False,
        "payload": draft.payload,
        "timestamp": rfc3339(draft.timestamp),
    }


def create_session(world: World, call: Call) -> Json:
    """Open a session for the stream; its token stands in for the API key for 15 minutes."""
    call.fields.finish()
    now = world.now()
    token = world.new_id("mes_token")
    world.note(token)["expires_at"] = now + SESSION_S
    return {
        "id": world.new_id("mes"),
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": rfc3339(now),
        "expires_at": rfc3339(now + SESSION_S),
        "livemode": False,
    }


class SessionExpired(Unauthenticated):
    """The billing meter event session has expired."""

    kind = "temporary_session_expired"


def check_session(world: World, token: str) -> None:
    """Refuse a stream request whose token is unknown or older than its 15 minutes."""
    note = world.state.notes.get(token)
    if note is None or "expires_at" not in note:
        raise Unauthenticated("Invalid meter event session token.")
    if world.clock.now() >= note["expires_at"]:
        code = "billing_meter_event_session_expired"
        raise SessionExpired(stripe_code=code, extra={"doc_url": f"{ERROR_PAGES}/{code}"})


def create_stream(world: World, call: Call) -> Json:
    """Take up to 100 events unchecked; duplicates are dropped and errors reported later."""
    rows = call.fields.rows("events")
    if not 1 <= len(rows) <= STREAM_BATCH:
        raise ParameterRefusal(f"events must have between 1 and {STREAM_BATCH} entries.", param="events")
    drafts = [_draft(world, row, _moment(row)) for row in rows]
    call.fields.finish()
    for draft in drafts:
        if not _is_taken(world, draft.identifier):
            _keep(world, draft, _problem(world, draft))
    return {}


def adjust_v1(world: World, call: Call) -> Json:
    """Cancel one event that Stripe received within the last 24 hours."""
    event_name, identifier = _cancel(world, call.fields)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event_name,
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


def adjust_v2(world: World, call: Call) -> Json:
    """Cancel one event that Stripe received within the last 24 hours."""
    event_name, identifier = _cancel(world, call.fields)
    return {
        "id": world.new_id("mtr_adj"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": rfc3339(world.now()),
        "event_name": event_name,
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


def report_errors(world: World) -> None:
    """Report the errors whose window has closed: one event for each meter, one for all unknown meters."""
    window_s = world.settings.validation_window_s
    closed = [error for error in world.state.meter_errors if world.clock.now() >= error.at + window_s]
    if not closed:
        return
    world.state.meter_errors = [error for error in world.state.meter_errors if error not in closed]
    for meter_id in dict.fromkeys(error.meter for error in closed):
        errors = [error for error in closed if error.meter == meter_id]
        meter = world.table("billing.meter").get(meter_id) if meter_id else None
        kind = "error_report_triggered" if meter else "no_meter_found"
        emit_thin(world, f"v1.billing.meter.{kind}", related=meter, data=_report(errors, window_s))


def _report(errors: list[MeterError], window_s: int) -> Json:
    """Count the errors of one meter by code, with a few samples of each: never all of them."""
    codes = list(dict.fromkeys(error.code for error in errors))
    types = []
    for code in codes:
        same = [error for error in errors if error.code == code]
        samples = [
            {"error_message": error.message, "request": {"identifier": error.identifier}}
            for error in same[:MAX_SAMPLES]
        ]
        types.append({"code": code, "error_count": len(same), "sample_errors": samples})
    start = min(error.at for error in errors)
    return {
        "developer_message_summary": f"There is {len(errors)} invalid event",
        "reason": {"error_count": len(errors), "error_types": types},
        "validation_end": rfc3339(start + window_s),
        "validation_start": rfc3339(start),
    }


def _draft(world: World, fields: Fields, timestamp: int | None) -> Draft:
    event_name = fields.need_text("event_name", longest=LONGEST_EVENT_NAME)
    payload = fields.mapping("payload")
    identifier = fields.text("identifier", longest=LONGEST_IDENTIFIER) or world.new_id("mtr_event")
    fields.finish()
    if payload is None:
        raise ParameterRefusal(
            "Missing required param: payload.", param="payload", stripe_code="parameter_missing"
        )
    return Draft(event_name, payload, identifier, world.now() if timestamp is None else timestamp)


def _moment(fields: Fields) -> int | None:
    text = fields.text("timestamp")
    if text is None:
        return None
    try:
        return from_rfc3339(text)
    except ValueError as problem:
        raise ParameterRefusal(f"Invalid timestamp: {text}", param="timestamp") from problem


def _is_taken(world: World, identifier: str) -> bool:
    event = world.by_identifier.get(identifier)
    return event is not None and world.clock.now() - event.received_at < UNIQUE_S


def _problem(world: World, draft: Draft) -> Problem | None:
    """Find the first thing that is wrong with an event, in the order in which Stripe's codes suggest."""
    meter = find_meter(world, draft.event_name)
    if meter is None:
        return Problem("no_meter", f"No meter found for event name {draft.event_name}.", "no_meter")
    if meter["status"] != "active":
        return Problem("archived_meter", "The meter is archived.", "archived_meter", meter["id"])
    customer_key = meter["customer_mapping"]["event_payload_key"]
    value_key = meter["value_settings"]["event_payload_key"]
    problem = _payload_problem(draft.payload, customer_key, value_key) or _context_problem(
        world, draft, draft.payload.get(customer_key, "")
    )
    return msgspec.structs.replace(problem, meter=meter["id"]) if problem else None


def _payload_problem(payload: dict[str, str], customer_key: str, value_key: str) -> Problem | None:
    if not payload.get(customer_key):
        return Problem(
            "meter_event_no_customer_defined",
            f"The payload has no customer under '{customer_key}'.",
            "payload_no_customer_defined",
        )
    value = payload.get(value_key)
    if not value:
        return Problem(
            "meter_event_value_not_found",
            f"The payload has no value under '{value_key}'.",
            "payload_no_value_defined",
        )
    if not VALUE.fullmatch(value):
        return Problem(
            "meter_event_invalid_value", f"The value '{value}' is not valid.", "payload_invalid_value"
        )
    return None


def _context_problem(world: World, draft: Draft, customer_id: str) -> Problem | None:
    """Check what v2 checks later: that the customer exists, and the time, by the customer's clock."""
    customer = world.table("customer").get(customer_id)
    if customer is None or customer.get("deleted"):
        return Problem("meter_event_customer_not_found", f"No such customer: '{customer_id}'")
    now = world.now_of(customer)
    if draft.timestamp < now - OLDEST_S:
        return Problem("timestamp_too_far_in_past", "The timestamp must be within the past 35 calendar days.")
    if draft.timestamp > now + NEWEST_S:
        return Problem("timestamp_in_future", "The timestamp must be at most 5 minutes in the future.")
    return None


def _v1_refusal(draft: Draft, problem: Problem) -> Refusal:
    if problem.code == "meter_event_customer_not_found":
        customer = problem.message.rpartition(": ")[2].strip("'")
        return NoSuchObject("customer", customer, param="payload[stripe_customer_id]")
    if problem.code in {"no_meter", "archived_meter"}:
        return Refusal(
            f"No active meter found with event name {draft.event_name}.",
            param="event_name",
            stripe_code=problem.code,
        )
    param = "timestamp" if problem.code.startswith("timestamp") else "payload"
    return Refusal(problem.message, param=param, stripe_code=problem.code)


def _keep(world: World, draft: Draft, problem: Problem | None) -> None:
    """Count an event, or note its error; an identifier is used up either way."""
    meter = find_meter(world, draft.event_name)
    event = MeterEvent(
        event_name=draft.event_name,
        identifier=draft.identifier,
        meter=meter["id"] if meter and not problem else "",
        customer=draft.payload.get(meter["customer_mapping"]["event_payload_key"], "") if meter else "",
        value=draft.payload.get(meter["value_settings"]["event_payload_key"], "0")
        if meter and not problem
        else "0",
        timestamp=draft.timestamp,
        received_at=world.clock.now(),
    )
    world.state.meter_events.append(event)
    world.index(event)
    if problem:
        error = MeterError(problem.code, problem.message, draft.identifier, problem.meter, world.clock.now())
        world.state.meter_errors.append(error)


def _cancel(world: World, fields: Fields) -> tuple[str, str]:
    event_name = fields.need_text("event_name", longest=LONGEST_EVENT_NAME)
    if fields.choice("type", "cancel") is None:
        raise ParameterRefusal("Missing required param: type.", param="type", stripe_code="parameter_missing")
    identifier = fields.need_group("cancel").need_text("identifier", longest=LONGEST_IDENTIFIER)
    fields.finish()
    event, code = world.by_identifier.get(identifier), "invalid_cancel_configuration"
    if event is None or event.event_name != event_name or not event.meter:
        raise Refusal(f"No event found with identifier {identifier}.", stripe_code=code)
    if event.cancelled:
        raise Refusal(f"The event with identifier {identifier} was already cancelled.", stripe_code=code)
    if world.clock.now() - event.received_at >= CANCELLABLE_S:
        raise Refusal(
            "Events can only be cancelled within 24 hours of Stripe receiving them.", stripe_code=code
        )
    event.cancelled = True
    return event_name, identifier


def sums_by_customer(world: World) -> dict[str, dict[str, str]]:
    """Sum everything ever counted, by customer and event name, as exact decimal text: the tests' yardstick."""
    sums: dict[str, dict[str, Decimal]] = {}
    for event in world.state.meter_events:
        if event.meter and not event.cancelled:
            mine = sums.setdefault(event.customer, {})
            mine[event.event_name] = mine.get(event.event_name, Decimal(0)) + Decimal(event.value)
    return {customer: {name: str(value) for name, value in mine.items()} for customer, mine in sums.items()}


ROUTES = [
    Route("POST", "/v1/billing/meter_events", create_v1),
    Route("POST", "/v1/billing/meter_event_adjustments", adjust_v1),
    Route("POST", "/v2/billing/meter_events", create_v2),
    Route("POST", "/v2/billing/meter_event_adjustments", adjust_v2),
    Route("POST", "/v2/billing/meter_event_session", create_session),
    Route("POST", "/v2/billing/meter_event_stream", create_stream),
]
