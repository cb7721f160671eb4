"""The matrix of failpoints: where a process is made to die, and in which shapes of answer that place exists.

Every name that the product has is here, and a test says so; the scenarios take their points from here alone.
"""

from tests.crash.load import SHAPES, Shape

STREAMS: tuple[Shape, ...] = tuple(shape for shape in SHAPES if shape[1])

REQUEST: dict[str, tuple[Shape, ...]] = {
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

REDIS: dict[str, tuple[Shape, ...]] = {
    "request.after_redis_hold": SHAPES,
    "request.after_redis_settle": SHAPES,
}
"""On the way of a request that Redis decides."""

SPOOL: dict[str, tuple[Shape, ...]] = {
    "spool.after_write": SHAPES,
    "spool.before_replay": SHAPES,
    "spool.after_replay": SHAPES,
}
SWEEPER: dict[str, tuple[Shape, ...]] = {
    "sweeper.before_commit": SHAPES,
    "sweeper.after_commit": SHAPES,
}
STRIPE: dict[str, tuple[Shape, ...]] = {
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

MATRIX: dict[str, tuple[Shape, ...]] = {**REQUEST, **REDIS, **SPOOL, **SWEEPER, **STRIPE}
SHORT = (
    "request.after_hold",
    "request.after_commit",
    "request.before_last_byte",
    "request.after_redis_settle",
)
"""The places that the short form visits."""
