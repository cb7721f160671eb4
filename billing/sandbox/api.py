"""One request to Stripe's API: who asks, what goes wrong on purpose, what was answered before, and the rest."""

import asyncio
import logging
from typing import Any

import msgspec

from billing.sandbox import (
    charges,
    checkout,
    credit_grants,
    customers,
    destinations,
    events,
    idempotency,
    invoice_items,
    invoices,
    meter_events,
    meters,
    payment_methods,
    portal,
    prices,
    products,
    subscriptions,
    test_clocks,
)
from billing.sandbox.answers import Answer, of_json, of_refusal
from billing.sandbox.expansion import expand
from billing.sandbox.faults import Fault, FaultKind
from billing.sandbox.fields import Fields
from billing.sandbox.form import decode_form
from billing.sandbox.refusals import ParameterRefusal, RateLimited, Refusal, ServerFault, Unauthenticated
from billing.sandbox.routing import Call, Request, Router
from billing.sandbox.state import Json
from billing.sandbox.world import API_VERSION, RequestNote, World

STREAM = "/v2/billing/meter_event_stream"
NOUNS = (
    charges,
    checkout,
    credit_grants,
    customers,
    destinations,
    events,
    invoice_items,
    invoices,
    meter_events,
    meters,
    payment_methods,
    portal,
    prices,
    products,
    subscriptions,
    test_clocks,
)
ROUTER = Router(route for noun in NOUNS for route in noun.ROUTES)
LOG = logging.getLogger(__name__)


class ScriptedRefusal(Refusal):
    """The sandbox was told to refuse this request."""

    stored = False
    should_retry = None
    kind = "api_error"


async def answer_api(world: World, request: Request) -> Answer:
    """Answer one request, as the faults in force allow, and remember it."""
    fault: Fault | None = None
    try:
        _authenticate(world, request)
        fault = world.faults.strike(request.method, request.path)
        answer = await _answer_through(world, request, fault)
    except Refusal as refusal:
        answer = of_refusal(refusal, is_v2=request.is_v2)
    replayed = any(name == "idempotent-replayed" for name, _ in answer.headers)
    kind = fault.kind.value if fault else None
    note = RequestNote(
        request.request_id,
        request.method,
        request.path,
        request.idempotency_key,
        answer.status,
        kind,
        replayed,
    )
    world.requests.append(note)
    return _with_headers(answer, request)


async def _answer_through(world: World, request: Request, fault: Fault | None) -> Answer:
    """Let a fault do to the request what it does, before, around or after its effect."""
    if fault is None:
        return _answer_once(world, request)
    match fault.kind:
        case FaultKind.RESET:
            return Answer(200, b"{}", cut=True)
        case FaultKind.REJECT:
            return _rejection(fault, is_v2=request.is_v2)
        case FaultKind.ERROR_STORED:
            return _stored_error(world, request, committed=fault.committed)
        case FaultKind.DELAY:
            with idempotency.key_held(world, request):
                await asyncio.sleep(fault.wait_s)
    answer = _answer_once(world, request)
    if fault.kind is FaultKind.SLOW_BODY:
        return msgspec.structs.replace(answer, pause_s=fault.wait_s)
    return msgspec.structs.replace(answer, cut=fault.kind is FaultKind.COMMIT_THEN_DROP)


def _answer_once(world: World, request: Request) -> Answer:
    """Replay what the request's key has stored, else execute it and store what came of it."""
    with idempotency.key_held(world, request):
        stored = idempotency.replay(world, request)
        if stored is not None:
            return Answer(stored.status, stored.body, headers=(("idempotent-replayed", "true"),))
        try:
            answer = of_json(_execute(world, request))
        except Refusal as refusal:
            answer = of_refusal(refusal, is_v2=request.is_v2)
            if refusal.stored:
                idempotency.store(world, request, answer.status, answer.body)
            return answer
        idempotency.store(world, request, answer.status, answer.body)
        return answer


def _execute(world: World, request: Request) -> Json:
    """Find who answers, read the parameters and let them answer; a bug of ours is a 500 like one of Stripe's."""
    route, ids = ROUTER.find(request.method, request.path)
    world.limits.check(
        world.settings.limits, method=request.method, endpoint=route.path, now=world.clock.now()
    )
    parameters = _parameters(request)
    if request.method != "GET":
        world.changes += 1
    world.request = (request.request_id, request.idempotency_key)
    try:
        answer = route.handle(world, Call(Fields(parameters), ids))
        return expand(world, answer, _expansions(parameters))
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as bug:
        LOG.exception("the Stripe sandbox failed at %s %s", request.method, request.path)
        raise ServerFault(f"The sandbox itself failed: {bug!r}") from bug
    finally:
        world.request = (None, None)


def _authenticate(world: World, request: Request) -> None:
    """Accept any secret or restricted key; the stream takes only the token of a session."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthenticated(
            "You did not provide an API key. Provide it in the Authorization header (Bearer)."
        )
    if request.path == STREAM:
        meter_events.check_session(world, key)
    elif not key.startswith(("sk_", "rk_")):
        raise Unauthenticated(f"Invalid API Key provided: {key[:7]}****")


def _parameters(request: Request) -> dict[str, Any]:
    """Decode what was sent: the query of GET and DELETE, a JSON body in v2, a form in v1."""
    if request.method != "POST":
        return decode_form(request.query)
    if not request.is_v2:
        return decode_form(request.body.decode("utf-8", "replace"))
    try:
        value = msgspec.json.decode(request.body or b"{}")
    except msgspec.DecodeError as problem:
        raise ParameterRefusal("The body is not valid JSON.") from problem
    if not isinstance(value, dict):
        raise ParameterRefusal("The body must be a JSON object.")
    return value


def _expansions(parameters: dict[str, Any]) -> list[str]:
    wanted = parameters.get("expand", [])
    if not isinstance(wanted, list):
        raise ParameterRefusal("Invalid array", param="expand")
    return [str(path) for path in wanted]


def _rejection(fault: Fault, *, is_v2: bool) -> Answer:
    refusal: Refusal
    if fault.status == RateLimited.status:
        refusal = RateLimited("endpoint-rate", fault.stripe_code or "rate_limit")
    else:
        refusal = ScriptedRefusal(stripe_code=fault.stripe_code, status=fault.status)
    answer = of_refusal(refusal, is_v2=is_v2)
    if fault.retry_after_s is None:
        return answer
    return msgspec.structs.replace(
        answer, headers=(*answer.headers, ("retry-after", str(fault.retry_after_s)))
    )


def _stored_error(world: World, request: Request, *, committed: bool) -> Answer:
    """Answer 500 and store that, with the request's effect or without it; a stored answer is replayed as ever."""
    with idempotency.key_held(world, request):
        stored = idempotency.replay(world, request)
        if stored is not None:
            return Answer(stored.status, stored.body, headers=(("idempotent-replayed", "true"),))
        if committed:
            _execute(world, request)
        answer = of_refusal(ServerFault(), is_v2=request.is_v2)
        idempotency.store(world, request, answer.status, answer.body)
        return answer


def _with_headers(answer: Answer, request: Request) -> Answer:
    headers = [
        ("request-id", request.request_id),
        ("stripe-version", request.headers.get("stripe-version", API_VERSION)),
    ]
    if request.idempotency_key and idempotency.uses_key(request):
        headers.append(("idempotency-key", request.idempotency_key))
    return msgspec.structs.replace(answer, headers=(*headers, *answer.headers))
