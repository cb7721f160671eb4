"""The matrix of failpoints: where a process is made to die, and in which shapes of answer that place exists.

Every name that the product has is here, and a test says so; the scenarios take their points from here alone.
"""

from typing import TypeAlias

from tests.crash.load import SHAPES, Shape

Matrix: TypeAlias = dict[str, tuple[Shape, ...]]
"""Points by name, with the shapes of answer in which each is a place."""

STREAMS: tuple[Shape, ...] = tuple(shape for shape in SHAPES if shape[1])

REQUEST: Matrix = {
    "request.after_hold": SHAPES,
    "request.before_send": SHAPES,
    "request.after_upstream_headers": SHAPES,
    # A whole answer has no events.
    "request.in_event": STREAMS,
    "request.after_usage": SHAPES,
    "request.before_commit": SHAPES,
    "request.after_commit": SHAPES,
    "request.before_last_byte": SHAPES,
    "request.after_last_byte": SHAPES,
}
"""On the way of a request, whichever engine decides."""

REDIS: Matrix = {
    "request.after_redis_hold": SHAPES,
    "request.after_redis_settle": SHAPES,
}
"""On the way of a request that Redis decides."""

SPOOL: Matrix = {
    "spool.after_write": SHAPES,
    "spool.before_replay": SHAPES,
    "spool.after_replay": SHAPES,
}
SWEEPER: Matrix = {
    "sweeper.before_commit": SHAPES,
    "sweeper.after_commit": SHAPES,
}
STRIPE: Matrix = {
    "sync.in_freeze": SHAPES,
    "sync.after_freeze": SHAPES,
    "sync.after_lease": SHAPES,
    "sync.before_post": SHAPES,
    "sync.after_post": SHAPES,
    "sync.before_accept": SHAPES,
    "sync.after_accept": SHAPES,
    "reconcile.before_commit": SHAPES,
    "reconcile.after_commit": SHAPES,
}
"""On the way of an hour's usage to Stripe; a batch there is the sum of answers of one shape."""

COMMANDS = frozenset({"correct.before_post", "correct.after_post", "correct.after_commit"})
"""Points of commands that an operator types, where no request is under way; each is died at in tests/integration."""

MATRIX: Matrix = {**REQUEST, **REDIS, **SPOOL, **SWEEPER, **STRIPE}
