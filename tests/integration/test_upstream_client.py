"""The client to upstreams, against the simulator and against servers that speak bad HTTP or none."""

import asyncio
import contextlib
import json
import socket
import struct
from contextlib import asynccontextmanager

import pytest

from gateway.runtime.watchdog import Watchdog
from gateway.upstream.catalogue import Dialect, Model, Upstream
from gateway.upstream.client import UpstreamClient
from gateway.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstream.routing import UpstreamCall, open_first
from tests.fakes.processes import free_port, running_simulator

CHAT = "/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LONG_S = 30
SHORT_S = 0.1


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
async def client():
    made = UpstreamClient.create()
    yield made
    await made.close()


def upstream_at(base_url, **changes):
    settings = {
        "name": "local",
        "base_url": base_url,
        "dialect": Dialect.CHAT,
        "api_key": None,
        "connect_timeout_s": LONG_S,
        "first_byte_timeout_s": LONG_S,
        "idle_timeout_s": LONG_S,
    }
    return Upstream(**{**settings, **changes})


def chat(prompt, *, stream=False):
    return json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    ).encode()


async def open_at(client, upstream, body=b"{}", *, request_id="req_1", total_timeout_s=LONG_S):
    return await client.open(
        upstream,
        CHAT,
        body,
        request_id=request_id,
        accept="application/json",
        total_timeout_s=total_timeout_s,
    )


@asynccontextmanager
async def raw_server(behave):
    """A TCP server that reads one request and then does as it is told; yields its URL."""
    conversations = set()

    async def serve(reader, writer):
        conversations.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            await behave(head, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations)


def sending(data):
    async def behave(_head, _reader, writer):
        writer.write(data)
        await writer.drain()

    return behave


async def hang(_head, reader, _writer):
    await reader.read()


async def read_until_end(answer):
    chunks = []
    while (chunk := await answer.read_chunk()) is not None:
        chunks.append(chunk)
    return chunks


# ---------------------------------------------------------------- what is sent and what comes back


async def test_a_json_answer_is_read_whole(client, simulator):
    answer = await open_at(client, upstream_at(simulator.base_url), chat("[[sim output=3]]"))
    assert (answer.status, answer.content_type) == (200, "application/json")
    body = json.loads(await answer.read_all(10_000))
    assert body["usage"]["completion_tokens"] == 3
    assert await answer.read_chunk() is None
    await answer.close()
    await answer.close()


async def test_a_stream_is_read_as_it_comes(client, simulator):
    body = chat("[[sim output=500]]", stream=True)
    answer = await open_at(client, upstream_at(simulator.base_url), body)
    assert answer.content_type == "text/event-stream"
    received = b"".join(await read_until_end(answer))
    assert received.count(b"data: ") == len(["role", *range(500), "finish", "[DONE]"])
    assert received.endswith(b"data: [DONE]\n\n")
    await answer.close()


async def test_headers_and_the_first_bytes_are_not_held_back_until_more_come(client):
    may_speak, may_end = asyncio.Event(), asyncio.Event()

    async def behave(_head, _reader, writer):
        writer.write(CHUNKED)
        await may_speak.wait()
        writer.write(b"5\r\ndata:\r\n")
        await may_end.wait()
        writer.write(b"0\r\n\r\n")

    async with raw_server(behave) as url:
        answer = await open_at(client, upstream_at(url))
        may_speak.set()
        assert await answer.read_chunk() == b"data:"
        may_end.set()
        assert await answer.read_chunk() is None
        await answer.close()


async def test_only_the_headers_of_the_list_are_sent(client):
    seen = []

    async def behave(head, _reader, writer):
        seen.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with raw_server(behave) as url:
        await (await open_at(client, upstream_at(url, api_key="sk-own"))).close()
        await (await open_at(client, upstream_at(url))).close()
    lines, without_key = (
        dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line) for head in seen
    )
    assert seen[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert lines.pop("host").startswith("127.0.0.1:")
    assert lines == {
        "content-type": "application/json",
        "content-length": "2",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "bearer sk-own",
        "x-request-id": "req_1",
        "user-agent": "nusagate",
    }
    assert "authorization" not in without_key


async def test_only_the_headers_of_the_list_are_kept(client):
    data = b"HTTP/1.1 429 Slow Down\r\nset-cookie: a=b\r\nretry-after: 7\r\nx-org: us\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(sending(data)) as url:
        answer = await open_at(client, upstream_at(url))
        assert (answer.status, answer.headers, answer.content_type) == (429, {"retry-after": "7"}, "")
        await answer.close()


async def test_a_redirect_is_an_answer_and_not_followed(client, simulator):
    data = f"HTTP/1.1 307 Go\r\nlocation: {simulator.base_url}{CHAT}\r\ncontent-length: 0\r\n\r\n".encode()
    async with raw_server(sending(data)) as url:
        answer = await open_at(client, upstream_at(url), request_id="req_redirect")
        assert answer.status == 307
        await answer.close()


async def test_a_connection_is_used_again_after_an_answer_was_read(client):
    connections = []

    async def behave(_head, reader, writer):
        connections.append(writer)
        for _ in range(2):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await reader.readuntil(b"\r\n\r\n{}")

    async with raw_server(behave) as url:
        for _ in range(2):
            answer = await open_at(client, upstream_at(url))
            assert await answer.read_all(10) == b"ok"
            await answer.close()
    assert len(connections) == 1


async def test_proxies_of_the_environment_are_ignored(client, simulator, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    answer = await open_at(client, upstream_at(simulator.base_url), chat("hi"))
    assert answer.status == 200
    await answer.close()


# ---------------------------------------------------------------- errors


async def test_a_refused_connection_is_unreachable(client):
    with pytest.raises(UpstreamUnreachable):
        await open_at(client, upstream_at(f"http://127.0.0.1:{free_port()}/v1"))


async def test_a_connection_that_does_not_come_about_in_time_is_unreachable(client):
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(UpstreamUnreachable):
            await open_at(client, upstream_at(url, connect_timeout_s=SHORT_S))


async def close_at_once(_head, _reader, _writer):
    pass


async def reset_at_once(_head, _reader, writer):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@pytest.mark.parametrize(
    "behave",
    [
        close_at_once,
        reset_at_once,
        sending(b"220 mail.example ESMTP\r\n\r\n"),
        sending(HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b"),
    ],
)
async def test_an_answer_that_breaks_before_its_body_is_a_reset_because_the_request_was_sent(client, behave):
    async with raw_server(behave) as url:
        with pytest.raises(UpstreamReset):
            await open_at(client, upstream_at(url))


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\nzz\r\n",
        HEAD + b"content-length: 50\r\n\r\nhello",
    ],
)
async def test_a_body_that_breaks_off_is_a_reset_and_not_an_end(client, data):
    async with raw_server(sending(data)) as url:
        answer = await open_at(client, upstream_at(url))
        with pytest.raises(UpstreamReset):
            await read_until_end(answer)
        await answer.close()


@pytest.mark.parametrize("directive", ["reset_after=3", "reset_after=0", "body=gzip"])
async def test_a_fault_of_the_simulator_is_seen_as_a_reset(client, simulator, directive):
    body = chat(f"[[sim output=9 {directive}]]", stream=True)
    with pytest.raises(UpstreamReset):
        await read_until_end(await open_at(client, upstream_at(simulator.base_url), body))


async def test_too_large_a_body_is_not_read_to_its_end(client, simulator):
    answer = await open_at(client, upstream_at(simulator.base_url), chat("[[sim output=20000]]"))
    with pytest.raises(UpstreamAnswerTooLarge):
        await answer.read_all(50_000)
    await answer.close()


# ---------------------------------------------------------------- time


async def test_headers_that_do_not_come_are_a_timeout(client):
    async with raw_server(hang) as url:
        with pytest.raises(UpstreamTimeout):
            await open_at(client, upstream_at(url, first_byte_timeout_s=SHORT_S))


async def test_a_stream_that_falls_silent_is_a_timeout(client, simulator):
    body = chat("[[sim output=9 hang_after=2]]", stream=True)
    upstream = upstream_at(simulator.base_url, idle_timeout_s=SHORT_S)
    answer = await open_at(client, upstream, body, request_id="req_silent")
    with pytest.raises(UpstreamTimeout):
        await read_until_end(answer)
    await answer.close()
    line = simulator.line_of("req_silent")
    assert (line["ending"], line["delivered_tokens"]) == ("client_gone", 2)


async def test_a_stream_that_drips_is_a_timeout_in_the_end(client, simulator):
    body = chat("[[sim output=1000 pace_ms=10]]", stream=True)
    answer = await open_at(client, upstream_at(simulator.base_url), body, total_timeout_s=0.3)
    with pytest.raises(UpstreamTimeout):
        await read_until_end(answer)
    with pytest.raises(UpstreamTimeout):
        await answer.read_chunk()
    await answer.close()


async def test_a_slow_stream_within_its_limits_is_read_to_its_end(client, simulator):
    body = chat("[[sim output=15 pace_ms=100]]", stream=True)
    upstream = upstream_at(simulator.base_url, first_byte_timeout_s=1, idle_timeout_s=1)
    received = await read_until_end(await open_at(client, upstream, body))
    assert received[-1].endswith(b"[DONE]\n\n")


# ---------------------------------------------------------------- leaving early


async def test_closing_a_stream_frees_the_connection(client, simulator):
    body = chat("[[sim output=100000 pace_ms=5]]", stream=True)
    answer = await open_at(client, upstream_at(simulator.base_url), body, request_id="req_closed")
    assert await answer.read_chunk()
    await answer.close()
    assert await answer.read_chunk() is None
    line = simulator.line_of("req_closed")
    assert line["ending"] == "client_gone"
    assert line["delivered_tokens"] < 100_000


async def test_a_cancelled_read_passes_the_cancellation_on_and_can_be_closed(client, simulator):
    body = chat("[[sim output=9 hang_after=2]]", stream=True)
    answer = await open_at(client, upstream_at(simulator.base_url), body, request_id="req_cancelled")
    reading = asyncio.create_task(read_until_end(answer))
    await asyncio.wait([reading], timeout=SHORT_S)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await answer.close()
    assert simulator.line_of("req_cancelled")["ending"] == "client_gone"


async def test_a_request_cancelled_before_its_headers_is_cut_when_its_time_is_up(client):
    asked, left = asyncio.Event(), asyncio.Event()

    async def behave(_head, reader, _writer):
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with raw_server(behave) as url:
        opening = asyncio.create_task(
            open_at(client, upstream_at(url, first_byte_timeout_s=0.5, idle_timeout_s=0.5))
        )
        await asked.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(left.wait(), LONG_S)


# ---------------------------------------------------------------- the watchdog


async def test_a_result_in_time_is_handed_on():
    async def answer():
        await asyncio.sleep(0)
        return 7

    watchdog = Watchdog(LONG_S, UpstreamTimeout)
    assert await watchdog.wait(answer, LONG_S) == 7
    watchdog.stop()


async def test_a_wait_that_swallows_its_cancellation_still_times_out():
    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 7

    with pytest.raises(UpstreamTimeout):
        await Watchdog(LONG_S, UpstreamTimeout).wait(stubborn, SHORT_S)
    assert asyncio.current_task().cancelling() == 0


async def test_a_shorter_wait_after_a_long_one_is_watched_too():
    watchdog = Watchdog(LONG_S, UpstreamTimeout)
    await watchdog.wait(lambda: asyncio.sleep(0), LONG_S)
    with pytest.raises(UpstreamTimeout):
        await watchdog.wait(asyncio.Event().wait, SHORT_S)


async def test_a_cancellation_from_outside_is_never_taken_for_a_timeout():
    started = asyncio.Event()

    async def stubborn():
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    watchdog = Watchdog(LONG_S, UpstreamTimeout)
    waiting = asyncio.create_task(watchdog.wait(stubborn, LONG_S))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    watchdog.stop()


# ---------------------------------------------------------------- which upstream


def model_over(*upstreams):
    return Model(
        id="m",
        upstreams=upstreams,
        upstream_model="m",
        context_window=8192,
        max_output_tokens=4096,
        bytes_per_token_min=1.0,
        prompt_overhead_tokens=0,
    )


async def open_first_of(client, *upstreams):
    return await open_first(
        client,
        model_over(*upstreams),
        lambda upstream: UpstreamCall(CHAT, chat(f"hi {upstream.name}"), "application/json"),
        request_id="req_1",
        total_timeout_s=LONG_S,
    )


async def test_the_next_upstream_is_asked_when_the_first_cannot_be_reached(client, simulator):
    dead = upstream_at(f"http://127.0.0.1:{free_port()}/v1", name="dead")
    opened = await open_first_of(client, dead, upstream_at(simulator.base_url, name="alive"))
    assert (opened.upstream.name, opened.answer.status) == ("alive", 200)
    await opened.answer.close()


async def test_when_no_upstream_can_be_reached_the_caller_hears_it(client):
    dead = upstream_at(f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(UpstreamUnreachable):
        await open_first_of(client, dead, dead)


async def test_no_other_upstream_is_asked_once_a_request_was_sent(client):
    asked = []

    async def behave(_head, _reader, _writer):
        asked.append(1)

    async with raw_server(behave) as url:
        with pytest.raises(UpstreamReset):
            await open_first_of(client, upstream_at(url), upstream_at(url, name="spare"))
    assert asked == [1]
