"""Every way in which a request can end, in every shape of answer: recorded under its name, once, and charged by the table.

What each fault looks like to a client, and every amount, is in the tests beside this one; here nothing is left out.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket

import pytest

from gateway.clock import monotonic_s
from gateway.ledger.model import EndReason, UsageSource
from gateway.metering.sweeper import Sweeper
from gateway.runtime.settings import Limits
from tests.fakes.supervisor import descendants
from tests.http.asking import CHAT, RESPONSES, ask, body_of, connect, wire_bytes
from tests.http.test_disconnects import UNLIMITED, leave_before_the_answer, limit_of
from tests.plugins.gateway import POLL_S

SHAPES = [(path, stream) for path in (RESPONSES, CHAT) for stream in (False, True)]
ENDED_WITHIN_S = 10
NOTHING = None
CHARGED = {
    EndReason.COMPLETED: UsageSource.UPSTREAM,
    EndReason.INCOMPLETE: UsageSource.UPSTREAM,
    EndReason.CLIENT_GONE_DRAINED: UsageSource.UPSTREAM,
    EndReason.CLIENT_GONE_CANCELLED: NOTHING,
    EndReason.UPSTREAM_ERROR: NOTHING,
    EndReason.UPSTREAM_RESET: NOTHING,
    EndReason.UPSTREAM_TIMEOUT: NOTHING,
    EndReason.DRAINED_AT_SHUTDOWN: NOTHING,
    EndReason.GATEWAY_CRASH: UsageSource.ESTIMATED,
}
"""How each is charged here, where nothing is delivered before an answer is cut short."""
ASKED = {
    EndReason.COMPLETED: {"directive": "output=4"},
    EndReason.INCOMPLETE: {"directive": "output=90", "limit": 20},
    EndReason.UPSTREAM_ERROR: {"directive": "status=500"},
    EndReason.UPSTREAM_RESET: {"directive": "reset_after=0"},
    EndReason.UPSTREAM_TIMEOUT: {"directive": "hang_after=0", "model": "impatient"},
}
"""The endings that come of asking and listening."""
LEFT = {EndReason.CLIENT_GONE_DRAINED: ("free", 500), EndReason.CLIENT_GONE_CANCELLED: ("enterprise", 3_000)}
"""The endings of clients that leave: the plan, and how long the model thinks."""
STOPPED = {EndReason.DRAINED_AT_SHUTDOWN: signal.SIGTERM, EndReason.GATEWAY_CRASH: signal.SIGKILL}
"""The endings of a gateway that is stopped while the model thinks."""


@pytest.fixture
def labels_of(http, gateway, gateways, books, people, sari):
    """Bring one ending about in all shapes; returns the ids of the requests."""

    async def leave(path, stream, ending):
        plan, delay_ms = LEFT[ending]
        person = await people.join("budi", plan=plan, limits=UNLIMITED)
        way = f"{path} {'stream' if stream else 'json'} over nusantara-base"
        return await leave_before_the_answer(gateway, books, person, way, f"output=5 delay_ms={delay_ms}")

    async def labels(ending):
        if ending in STOPPED:
            return await stop_while_it_thinks(gateways, books, sari, STOPPED[ending])
        if ending in LEFT:
            return [await leave(path, stream, ending) for path, stream in SHAPES]
        asked = ASKED[ending]
        prompt, model = f"Halo [[sim {asked['directive']}]]", asked.get("model", "nusantara-base")
        return [
            ask(http, sari, path, prompt, model=model, stream=stream, **limit_of(path, asked.get("limit", 100))).label
            for path, stream in SHAPES
        ]  # fmt: skip

    return labels


async def stop_while_it_thinks(gateways, books, person, number):
    """Stop a gateway that has one request of each shape open, and let a worker sweep after one that was killed."""
    with contextlib.ExitStack() as connections, gateways.running() as gateway:
        for path, stream in SHAPES:
            body = json.dumps(body_of(path, "Halo [[sim delay_ms=60000]]", stream=stream)).encode()
            connection: socket.socket = connections.enter_context(connect(gateway.port))
            connection.sendall(wire_bytes(person, path, body))
        deadline_s = monotonic_s() + ENDED_WITHIN_S
        while len(labels := await books.requests_of(person)) < len(SHAPES):
            assert monotonic_s() < deadline_s, f"only {labels} were admitted"
            await asyncio.sleep(POLL_S)
        for pid in (
            (gateway.process.pid, *descendants(gateway.process.pid)) if number is signal.SIGKILL else ()
        ):
            os.kill(pid, number)
    if number is signal.SIGKILL:
        await sweep(books, labels)
    return labels


async def sweep(books, labels):
    """Let a worker look for what a dead gateway left, until it has found it."""
    sweeper, deadline_s = Sweeper(Limits(sweep_after_s=1)), monotonic_s() + ENDED_WITHIN_S
    while "open" in [await books.state(label) for label in labels]:
        assert monotonic_s() < deadline_s, "not swept"
        await sweeper.sweep(books.db)
        await asyncio.sleep(POLL_S)


def test_every_ending_is_brought_about_and_has_its_charge():
    assert ASKED.keys() | LEFT.keys() | STOPPED.keys() == set(EndReason) == CHARGED.keys()


@pytest.mark.parametrize("ending", list(EndReason))
async def test_a_request_ends_once_under_its_name_and_is_charged_by_the_table(labels_of, books, ending):
    labels = await labels_of(ending)
    assert len(set(labels)) == len(SHAPES)
    for label in labels:
        entry = await books.closed(label)
        charged = None if entry is None else UsageSource(entry["usage_source"])
        assert (await books.ending(label), charged) == (ending, CHARGED[ending])
        assert await books.state(label) == ("released" if entry is None else "settled")
        assert entry is None or entry["end_reason"] == ending
    shapes = await books.db.fetch(
        "SELECT endpoint, stream FROM request_intent WHERE request_id = ANY($1::uuid[])",
        [label.removeprefix("req_") for label in labels],
    )
    assert sorted((row["endpoint"], row["stream"]) for row in shapes) == sorted(
        (endpoint, stream) for endpoint in ("responses", "chat.completions") for stream in (False, True)
    )
