"""Test clocks: a time of its own for some customers, which only moves when it is advanced."""

from billing.sandbox.events import emit
from billing.sandbox.refusals import Refusal
from billing.sandbox.routing import Call, Route, page_of
from billing.sandbox.state import DAY_S, Json
from billing.sandbox.timeline import catch_up
from billing.sandbox.world import World

KIND = "test_helpers.test_clock"
KEPT_S = 30 * DAY_S
MAX_ADVANCE_S = 2 * 366 * DAY_S


def create(world: World, call: Call) -> Json:
    """Create a test clock that stands at ``frozen_time``."""
    frozen, name = call.fields.need_integer("frozen_time"), call.fields.text("name")
    call.fields.finish()
    now = world.now()
    return world.add(
        {
            "id": world.new_id("clock"),
            "object": KIND,
            "created": now,
            "deletes_after": now + KEPT_S,
            "frozen_time": frozen,
            "livemode": False,
            "name": name,
            "status": "ready",
            "status_details": {},
        }
    )


def retrieve(world: World, call: Call) -> Json:
    """Return a test clock."""
    call.fields.finish()
    return world.find(KIND, call.id)


def list_clocks(world: World, call: Call) -> Json:
    """List test clocks."""
    return page_of(world.table(KIND).values(), call, "/v1/test_helpers/test_clocks")


def advance(world: World, call: Call) -> Json:
    """Move a test clock ahead, by two billing intervals at most; it is ready again when all that followed is done."""
    frozen = call.fields.need_integer("frozen_time")
    call.fields.finish()
    test_clock = world.find(KIND, call.id)
    if frozen <= test_clock["frozen_time"]:
        raise Refusal("frozen_time must be later than the clock's current time.", param="frozen_time")
    if frozen - test_clock["frozen_time"] > _furthest_s(world, call.id):
        raise Refusal(
            "A test clock advances by at most two intervals of its shortest subscription.",
            param="frozen_time",
            stripe_code="test_clock_advance_too_far",
        )
    test_clock.update(frozen_time=frozen, status="advancing")
    emit(world, "test_helpers.test_clock.advancing", test_clock)
    answer = {**test_clock, "status_details": {"advancing": {"target_frozen_time": frozen}}}
    catch_up(world)
    test_clock["status"] = "ready"
    emit(world, "test_helpers.test_clock.ready", test_clock)
    return answer


def delete(world: World, call: Call) -> Json:
    """Delete a test clock and the customers that live in it."""
    call.fields.finish()
    test_clock = world.find(KIND, call.id)
    for kind in ("customer", "subscription", "invoice", "invoiceitem"):
        table = world.table(kind)
        for identifier in [
            key for key, value in table.items() if value.get("test_clock") == test_clock["id"]
        ]:
            del table[identifier]
    del world.table(KIND)[test_clock["id"]]
    return {"id": test_clock["id"], "object": KIND, "deleted": True}


def _furthest_s(world: World, clock_id: str) -> int:
    """Return how far a clock may go: two of the shortest interval among its subscriptions, else two years."""
    lengths_s = {"day": DAY_S, "week": 7 * DAY_S, "month": 31 * DAY_S, "year": 366 * DAY_S}
    intervals = [
        lengths_s[subscription["items"]["data"][0]["price"]["recurring"]["interval"]]
        for subscription in world.table("subscription").values()
        if subscription["test_clock"] == clock_id and subscription["status"] != "canceled"
    ]
    return 2 * min(intervals) if intervals else MAX_ADVANCE_S


ROUTES = [
    Route("POST", "/v1/test_helpers/test_clocks", create),
    Route("GET", "/v1/test_helpers/test_clocks", list_clocks),
    Route("GET", "/v1/test_helpers/test_clocks/{test_clock}", retrieve),
    Route("DELETE", "/v1/test_helpers/test_clocks/{test_clock}", delete),
    Route("POST", "/v1/test_helpers/test_clocks/{test_clock}/advance", advance),
]
