"""Clients that leave: at each stage, under both policies, and always with exactly one end in the books."""

import asyncio
import contextlib
import json
import socket
from contextlib import ExitStack

import pytest

from gateway.accounts.model import LimitName
from gateway.clock import monotonic_s
from gateway.metering.bounds import estimate_output_tokens
from tests.http.asking import CHAT, RESPONSES, Answer, ask, bearer, body_of, connect, wire_bytes
from tests.http.test_metering import WAYS

UNLIMITED = dict.fromkeys((LimitName.MONTHLY_TOKENS, LimitName.REQUESTS_PER_MINUTE, LimitName.CONCURRENCY))
STREAM_WAYS = [way for way in WAYS if WAYS[way][2]]
SMALL = 200
"""So few tokens that their rest is read to the end under either policy."""
CLOSED_WITHIN_S = 15
POLL_S = 0.1


@pytest.fixture
async def draining(people):
    """Sari on the free plan, whose answers are read to their end."""
    return await people.join("sari", plan="free", limits=UNLIMITED)


@pytest.fixture
async def cancelling(people):
    """Budi on a plan that cancels what its client no longer waits for."""
    return await people.join("budi", plan="enterprise")


def limit_of(path, tokens):
    return {"max_tokens" if path == CHAT else "max_output_tokens": tokens}


async def leave_before_the_answer(gateway, books, person, way, directive, **more):
    """Ask, leave as soon as the request is admitted, and return its id."""
    path, model, stream = WAYS[way]
    body = json.dumps(body_of(path, f"Halo [[sim {directive}]]", model=model, stream=stream, **more)).encode()
    with connect(gateway.port) as connection:
        connection.sendall(wire_bytes(person, path, body))
        return await books.first_of(person)


def leave_within_the_stream(http, person, way, directive, **more):
    """Read a stream up to its first words, leave, and return its id and what was read."""
    path, model, _stream = WAYS[way]
    body = body_of(path, f"Halo [[sim {directive}]]", model=model, stream=True, **more)
    with http.stream("POST", path, json=body, headers=bearer(person)) as answer:
        taken = b""
        for piece in answer.iter_raw():
            taken += piece
            whole = Answer(200, answer.headers, taken[: taken.rfind(b"\n\n") + 2])
            if whole.text:
                return whole
    raise AssertionError(taken)


# ---------------------------------------------------------------- before the request is whole


@pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
async def test_a_client_that_leaves_within_its_request_has_asked_nothing(http, gateway, books, sari, part):
    whole = wire_bytes(sari, RESPONSES, json.dumps(body_of(RESPONSES, "Halo [[sim output=1]]")).encode())
    with connect(gateway.port) as connection:
        connection.sendall(whole[: int(len(whole) * part)])
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=1]]")
    assert await books.requests_of(sari) == [answer.label]


# ---------------------------------------------------------------- before the answer


@pytest.mark.parametrize("way", WAYS)
async def test_under_drain_the_exact_usage_is_charged(gateway, books, draining, simulator, way):
    label = await leave_before_the_answer(gateway, books, draining, way, "output=5 delay_ms=500")
    entry, line = await books.closed(label), simulator.line_of(label)
    assert (entry["end_reason"], entry["usage_source"]) == ("client_gone_drained", "upstream")
    assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"]
    assert line["ending"] == "complete"


@pytest.mark.parametrize("way", WAYS)
async def test_under_cancel_nothing_is_charged_before_the_first_token(gateway, books, cancelling, way):
    label = await leave_before_the_answer(gateway, books, cancelling, way, "output=5 delay_ms=3000")
    assert await books.closed(label) is None
    assert await books.used(cancelling) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_small_rest_is_read_to_its_end_under_cancel_too(gateway, books, cancelling, simulator, way):
    small = limit_of(WAYS[way][0], SMALL)
    label = await leave_before_the_answer(gateway, books, cancelling, way, "output=5 delay_ms=500", **small)
    entry, line = await books.closed(label), simulator.line_of(label)
    assert entry["end_reason"] == "client_gone_drained"
    assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"]


# ---------------------------------------------------------------- within the stream


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_under_drain_a_stream_is_charged_to_its_end(http, books, draining, simulator, way):
    left = leave_within_the_stream(http, draining, way, "output=12 pace_ms=60")
    entry, line = await books.closed(left.label), simulator.line_of(left.label)
    assert (entry["end_reason"], entry["usage_source"]) == ("client_gone_drained", "upstream")
    assert (line["ending"], entry["output_text_tokens"]) == ("complete", 12)
    assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"]


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_a_drained_stream_that_closes_without_a_word_was_cut_off(gateway, books, draining, way):
    """However cleanly it was closed: nobody is there to see it, and it costs nothing all the same."""
    label = await leave_before_the_answer(gateway, books, draining, way, "output=5 delay_ms=500 body=empty")
    assert await books.closed(label) is None
    assert await books.ending(label) == "upstream_reset"


async def test_a_drained_stream_that_closes_without_its_end_costs_what_was_delivered(http, books, draining):
    way = "/v1/responses stream over nusantara-responses"
    left = leave_within_the_stream(http, draining, way, "output=12 pace_ms=60 body=truncated")
    entry = await books.closed(left.label)
    assert (entry["end_reason"], entry["usage_source"]) == ("upstream_reset", "estimated")
    assert entry["output_text_tokens"] > estimate_output_tokens(len(left.text.encode()))


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_under_cancel_a_stream_is_charged_for_what_came(http, books, cancelling, simulator, way):
    left = leave_within_the_stream(http, cancelling, way, "output=500 pace_ms=20")
    entry, line = await books.closed(left.label), simulator.line_of(left.label)
    assert (entry["end_reason"], entry["usage_source"]) == ("client_gone_cancelled", "estimated")
    assert line["ending"] == "client_gone"
    assert line["delivered_tokens"] < 500
    assert entry["output_text_tokens"] >= estimate_output_tokens(len(left.text.encode()))


async def test_draining_has_a_time_limit(http, books, draining, simulator):
    left = [leave_within_the_stream(http, draining, way, "output=500 pace_ms=50") for way in STREAM_WAYS]
    for answer in left:
        entry = await books.closed(answer.label)
        assert (entry["end_reason"], entry["usage_source"]) == ("client_gone_cancelled", "estimated")
        assert simulator.line_of(answer.label)["ending"] == "client_gone"


async def test_one_key_drains_four_answers_at_a_time(http, books, draining):
    left = []
    with ExitStack() as stack:
        for _ in range(6):
            body = body_of(CHAT, "Halo [[sim output=30 pace_ms=20]]", stream=True)
            answer = stack.enter_context(http.stream("POST", CHAT, json=body, headers=bearer(draining)))
            left.append(answer.headers["x-request-id"])
    endings = [(await books.closed(label) or {"end_reason": "released"})["end_reason"] for label in left]
    assert endings.count("client_gone_drained") == 4


async def test_a_client_that_takes_nothing_is_treated_as_gone(gateway, books, people):
    """An endless stream into a connection that nobody reads ends, instead of filling the memory."""
    sari = await people.join("sari")
    body = json.dumps(body_of(CHAT, "[[rude flood]]", model="rude", stream=True)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(wire_bytes(sari, CHAT, body))
        entry = await books.closed(await books.first_of(sari))
    assert entry["end_reason"] == "client_gone_cancelled"


def endless_stream(person):
    body = json.dumps(body_of(CHAT, "[[rude flood]]", model="rude", stream=True)).encode()
    return wire_bytes(person, CHAT, body)


def many_pages(_person):
    return b"GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n" * 200


@pytest.mark.parametrize("asked", [endless_stream, many_pages])
async def test_a_connection_that_nobody_reads_is_closed(gateway, people, asked):
    """Not only is the request over: the descriptor must be free again, although the client is still there."""
    sari = await people.join("sari")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(asked(sari))
        deadline_s = monotonic_s() + CLOSED_WITHIN_S
        with contextlib.suppress(ConnectionError):
            while True:
                assert monotonic_s() < deadline_s, f"still open after {CLOSED_WITHIN_S} s"
                # Who is closed for taking nothing is not told; the next byte is answered with it.
                connection.send(b"\n")
                await asyncio.sleep(POLL_S)


# ---------------------------------------------------------------- after the end


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_after_the_last_byte_changes_nothing(gateway, books, sari, simulator, way):
    path, model, stream = WAYS[way]
    body = json.dumps(body_of(path, "Halo [[sim output=3]]", model=model, stream=stream)).encode()
    with connect(gateway.port) as connection:
        connection.sendall(wire_bytes(sari, path, body, extra="connection: close\r\n"))
        while connection.recv(65_536):
            pass
    (label,) = await books.requests_of(sari)
    entry, line = await books.closed(label), simulator.line_of(label)
    assert (entry["end_reason"], entry["output_text_tokens"]) == ("completed", 3)
    assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"]
