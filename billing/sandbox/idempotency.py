"""Idempotency keys, as Stripe keeps them (docs.stripe.com/api/idempotent_requests).

v1 replays the stored answer of the first executed request, its errors and 500s included, for 24 hours.
v2 replays only a success, for 30 days, and runs a failed request again.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from billing.sandbox.refusals import KeyInUse, KeyMismatch, ParameterRefusal
from billing.sandbox.routing import Request
from billing.sandbox.state import DAY_S, StoredAnswer
from billing.sandbox.world import World

KEPT_V1_S = DAY_S
KEPT_V2_S = 30 * DAY_S
LONGEST_KEY = 255
FIRST_ERROR = 400


def uses_key(request: Request) -> bool:
    """Tell whether this request's key counts: POST, and DELETE in v2."""
    return request.method == "POST" or (request.is_v2 and request.method == "DELETE")


@contextmanager
def key_held(world: World, request: Request) -> Iterator[None]:
    """Hold the request's key while it executes; ``KeyInUse`` if another request holds it."""
    key = _slot(request)
    if key is None:
        yield
        return
    if key in world.keys_in_use:
        raise KeyInUse
    world.keys_in_use.add(key)
    try:
        yield
    finally:
        world.keys_in_use.discard(key)


def replay(world: World, request: Request) -> StoredAnswer | None:
    """Return the answer to replay, if there is one; ``KeyMismatch`` if the key belongs to another request."""
    key = _slot(request)
    if key is None:
        return None
    stored = world.state.answers.get(key)
    if stored is None:
        return None
    kept_s = KEPT_V2_S if request.is_v2 else KEPT_V1_S
    if world.clock.now() - stored.at >= kept_s:
        del world.state.answers[key]
        return None
    if stored.digest != _digest(request):
        raise KeyMismatch(f"{KeyMismatch.__doc__} Try using a key other than '{request.idempotency_key}'.")
    return stored


def store(world: World, request: Request, status: int, body: bytes) -> None:
    """Keep an answer for replay."""
    key = _slot(request)
    if key is None or (request.is_v2 and status >= FIRST_ERROR):
        return
    world.state.answers[key] = StoredAnswer(_digest(request), status, body, world.clock.now())


def _slot(request: Request) -> str | None:
    key = request.idempotency_key
    if key is None or not uses_key(request):
        return None
    if len(key) > LONGEST_KEY:
        raise ParameterRefusal(f"Idempotency keys are at most {LONGEST_KEY} characters.")
    return f"{'v2' if request.is_v2 else 'v1'}:{key}"


def _digest(request: Request) -> str:
    head = f"{request.method} {request.path}?{request.query}\n".encode()
    return hashlib.sha256(head + request.body).hexdigest()


def prune(world: World) -> None:
    """Forget the answers that can no longer be replayed."""
    now = world.clock.now()
    answers = world.state.answers
    kept_s = {"v1": KEPT_V1_S, "v2": KEPT_V2_S}
    for slot in [slot for slot, stored in answers.items() if now - stored.at >= kept_s[slot[:2]]]:
        del answers[slot]
