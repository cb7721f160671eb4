"""What is measured, one function a figure; each takes the stand and returns rows of the report."""

import asyncio
import re
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import uvloop

from tests.bench.clients import (
    Target,
    finish_streams,
    first_events,
    open_loop,
    open_streams,
    percentile,
)
from tests.bench.load import Load, Result, run_wrk
from tests.bench.machine import cpu_s, resident_bytes
from tests.bench.stand import Stand

T = TypeVar("T")

CONNECTIONS = (1, 32, 128)
OPEN_LOOP_PER_SECOND = 500
STREAMS = 200
EVENTS = 100
INTERVAL_MS = 20
FIRST_EVENTS = 400
FIRST_EVENTS_PER_SECOND = 100
MALFORMED_KEY = "nsk_live_0123456789abcdef0123456789abcdef000000"
ANY_KEY = "none"
MICRO = 1_000_000
MILLI = 1_000
ANSWER_TIMEOUT_S = 10


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number; ``goal`` is a bound in the same unit, and ``ratio`` compares with nginx in this run."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    ratio: float | None = None
    note: str | None = None


class Pace(msgspec.Struct, frozen=True):
    """How long each scenario may take, in seconds, how many streams are held open, and how large a ledger is filled."""

    load_s: int
    warm_up_s: int
    open_loop_s: int
    open_streams: int
    entries: int


def responses_body(*, store: bool) -> bytes:
    """Write the request of the full path: what a chat of one line looks like."""
    return msgspec.json.encode(
        {
            "model": "nusantara-base",
            "input": "Selamat pagi! Apa kabar?",
            "max_output_tokens": 128,
            "store": store,
        }
    )


def chat_body(
    *, model: str = "nusantara-base", content: str = "Selamat pagi! Apa kabar?", stream: bool = False
) -> bytes:
    """Write a chat request."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 2048}
    return msgspec.json.encode({**body, "stream": True} if stream else body)


def stream_body(*, events: int, interval_ms: int) -> bytes:
    """Write a request for a stream at a known pace."""
    prompt = f"events={events} interval_ms={interval_ms}"
    return chat_body(model="smollm2-135m", content=prompt, stream=True)


def full_path(stand: Stand, pace: Pace) -> list[Figure]:
    """Whole requests: key, reservation, intent, relay, entry; beside nginx, which only relays."""
    figures = []
    for connections in CONNECTIONS:
        plain = _load(stand, pace, stand.ports.proxy, stand.proxy, connections=connections)
        floor = _load(stand, pace, stand.ports.bare, stand.bare, connections=connections)
        full = _load(stand, pace, stand.ports.gateway, stand.gateway, connections=connections)
        ratio = full.result.per_second / plain.result.per_second
        figures += [
            plain.figure(f"nginx as a plain proxy, {connections} connections"),
            floor.figure(
                f"the same server and client with nothing between, {connections} connections",
                ratio=floor.result.per_second / plain.result.per_second,
            ),
            full.figure(
                f"full path, {connections} connections",
                goal=">= 4000 and >= 0.1 of nginx" if connections == max(CONNECTIONS) else None,
                ratio=ratio,
            ),
        ]
    return figures


def full_path_variants(stand: Stand, pace: Pace) -> list[Figure]:
    """The full path at the most connections, of other shapes."""
    most = max(CONNECTIONS)
    port, pid = stand.ports.gateway, stand.gateway
    stored = _load(stand, pace, port, pid, connections=most, body=responses_body(store=True))
    chat = _load(stand, pace, port, pid, connections=most, path="/v1/chat/completions", body=chat_body())
    many = _load(stand, pace, port, pid, connections=most, keys=stand.keys)
    return [
        stored.figure(f"full path, store: true, {most} connections"),
        chat.figure(f"full path, chat, {most} connections"),
        many.figure(f"full path, {len(stand.keys)} accounts, {most} connections"),
    ]


def garbage_keys(stand: Stand, pace: Pace) -> list[Figure]:
    """Requests whose key fails its checksum: refused without a query."""
    before = _lookups(stand)
    measured = _load(
        stand, pace, stand.ports.gateway, stand.gateway, connections=32, keys=(MALFORMED_KEY,), refused=True
    )
    floor = _load(stand, pace, stand.ports.bare, stand.bare, connections=32, path="/refuse", refused=True)
    return [
        Figure(
            name="garbage key, CPU a request",
            value=measured.cpu_us,
            unit="us",
            note=f"{measured.result.per_second:,} requests/s",
        ),
        Figure(
            name="garbage key, CPU above what the server needs to refuse anything",
            value=measured.cpu_us - floor.cpu_us,
            unit="us",
            goal="<= 20",
            note=f"the server alone: {floor.cpu_us:.0f} us, {floor.result.per_second:,} requests/s",
        ),
        Figure(name="garbage key, queries", value=_lookups(stand) - before, unit="queries", goal="0"),
    ]


def stream_cpu(stand: Stand, _pace: Pace) -> list[Figure]:
    """Streams relayed event by event, counted and settled; beside nginx, which only relays, unbuffered."""
    body = stream_body(events=EVENTS, interval_ms=INTERVAL_MS)
    targets = {
        "nginx, unbuffered": (_proxied_streams(stand), stand.proxy),
        "the same server and client with nothing between": (
            Target(stand.ports.bare, "/v1/chat/completions", ANY_KEY),
            stand.bare,
        ),
        "gateway, chat": (_target(stand, "/v1/chat/completions"), stand.gateway),
        "gateway, chat translated to responses": (_target(stand, "/v1/responses"), stand.gateway),
    }
    costs = {}
    for name, (target, pid) in targets.items():
        sent = _responses_stream_body(body) if target.path == "/v1/responses" else body
        _run(lambda target=target, sent=sent: _stream(target, sent, count=20))
        before = cpu_s(pid)
        _run(lambda target=target, sent=sent: _stream(target, sent, count=STREAMS))
        costs[name] = (cpu_s(pid) - before) * MICRO / (STREAMS * EVENTS)
    plain = costs["nginx, unbuffered"]
    return [
        Figure(
            name=f"stream, CPU an event: {name}",
            value=cost,
            unit="us",
            goal="<= 25 and <= 2 of nginx" if name == "gateway, chat" else None,
            ratio=None if cost is plain else cost / plain,
            note=f"{STREAMS} streams of {EVENTS} events",
        )
        for name, cost in costs.items()
    ]


def added_latency(stand: Stand, pace: Pace) -> list[Figure]:
    """What the gateway adds to an upstream's own latency at a steady pace, commit included."""
    body = responses_body(store=False)
    upstream = Target(stand.ports.fixed, "/v1/responses", ANY_KEY)

    def measure(target: Target, seconds: float) -> list[float]:
        return _run(
            lambda: open_loop(target, body, per_second=OPEN_LOOP_PER_SECOND, seconds=seconds, connections=32)
        )

    through = _target(stand, "/v1/responses")
    measure(through, pace.warm_up_s)
    direct, full = measure(upstream, pace.open_loop_s), measure(through, pace.open_loop_s)
    return _added(
        f"added latency at {OPEN_LOOP_PER_SECOND} requests/s", direct, full, goals=("<= 1.5", "<= 5")
    )


def first_event(stand: Stand, _pace: Pace) -> list[Figure]:
    """What the gateway adds to the time to a stream's first event."""
    body = stream_body(events=3, interval_ms=1)
    upstream = Target(stand.ports.streams, "/v1/chat/completions", ANY_KEY)

    def measure(target: Target) -> list[float]:
        return _run(
            lambda: first_events(target, body, per_second=FIRST_EVENTS_PER_SECOND, count=FIRST_EVENTS)
        )

    direct, full = measure(upstream), measure(_target(stand, "/v1/chat/completions"))
    return _added("time to the first event, added", direct, full, goals=("<= 1", "<= 4"))


def open_stream_memory(stand: Stand, pace: Pace) -> list[Figure]:
    """The gateway's memory for each stream that is open."""
    body = stream_body(events=60, interval_ms=1_000)
    target = _target(stand, "/v1/chat/completions")

    async def hold() -> int:
        connections = await open_streams(
            target, body, count=pace.open_streams, spread_s=pace.open_streams / MILLI
        )
        await asyncio.sleep(3)
        held = resident_bytes(stand.gateway)
        for connection in connections:
            connection.close()
        return held

    before = resident_bytes(stand.gateway)
    grown = _run(hold) - before
    return [
        Figure(
            name=f"memory of an open stream, {pace.open_streams:,} open",
            value=grown / 1024 / pace.open_streams,
            unit="KiB",
            goal="<= 40",
        )
    ]


def idle_memory(stand: Stand, _pace: Pace) -> list[Figure]:
    """A worker's memory before its first request."""
    resident_mib = resident_bytes(stand.gateway) / 2**20
    return [Figure(name="idle memory of a worker", value=resident_mib, unit="MiB", goal="<= 80")]


SCENARIOS: tuple[Callable[[Stand, Pace], list[Figure]], ...] = (
    idle_memory,
    full_path,
    full_path_variants,
    garbage_keys,
    added_latency,
    first_event,
    stream_cpu,
    open_stream_memory,
)


class Measured(msgspec.Struct, frozen=True):
    """A result of wrk, and what it cost the subject and the database, in microseconds of CPU a request."""

    result: Result
    cpu_us: float
    database_us: float

    def figure(self, name: str, *, goal: str | None = None, ratio: float | None = None) -> Figure:
        """Show the rate, with what lies behind it."""
        latency = f"p50 {self.result.p50_us / MILLI:.1f} ms, p99 {self.result.p99_us / MILLI:.1f} ms"
        database = f", Postgres {self.database_us:.0f} us" if self.database_us >= 1 else ""
        note = f"{latency}; CPU {self.cpu_us:.0f} us{database}"
        return Figure(
            name=name, value=self.result.per_second, unit="requests/s", goal=goal, ratio=ratio, note=note
        )


def _load(
    stand: Stand,
    pace: Pace,
    port: int,
    pid: int,
    *,
    connections: int,
    path: str = "/v1/responses",
    body: bytes | None = None,
    keys: tuple[str, ...] = (),
    refused: bool = False,
) -> Measured:
    load = Load(port, path, body or responses_body(store=False), keys or stand.keys[:1], connections)
    run_wrk(stand.folder, load, seconds=pace.warm_up_s, command=stand.load_command)
    cpu, database = cpu_s(pid), stand.database_cpu_s()
    result = run_wrk(stand.folder, load, seconds=pace.load_s, command=stand.load_command)
    if result.failures != (result.requests if refused else 0):
        raise RuntimeError(
            f"{result.failures} of {result.requests} requests to {path} were not answered as expected"
        )
    return Measured(
        result,
        (cpu_s(pid) - cpu) * MICRO / result.requests,
        (stand.database_cpu_s() - database) * MICRO / result.requests,
    )


def _target(stand: Stand, path: str) -> Target:
    return Target(stand.ports.gateway, path, stand.keys[0])


def _proxied_streams(stand: Stand) -> Target:
    return Target(stand.ports.proxy, "/streams/v1/chat/completions", ANY_KEY)


def _responses_stream_body(chat: bytes) -> bytes:
    content = msgspec.json.decode(chat)["messages"][0]["content"]
    return msgspec.json.encode({"model": "smollm2-135m", "input": content, "stream": True, "store": False})


async def _stream(target: Target, body: bytes, *, count: int) -> None:
    connections = await open_streams(target, body, count=count, spread_s=INTERVAL_MS / MILLI)
    await finish_streams(connections)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def once() -> T:
        return await work()

    return uvloop.run(once())


def _added(name: str, direct: list[float], full: list[float], *, goals: tuple[str, str]) -> list[Figure]:
    figures = []
    for percent, goal in zip((50, 99), goals, strict=True):
        own, whole = percentile(direct, percent) * MILLI, percentile(full, percent) * MILLI
        note = f"{whole:.2f} ms through the gateway, {own:.2f} ms without"
        figures.append(Figure(name=f"{name}, p{percent}", value=whole - own, unit="ms", goal=goal, note=note))
    return figures


def _lookups(stand: Stand) -> int:
    url = f"http://127.0.0.1:{stand.ports.gateway}/metrics"
    with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
        text = answer.read().decode()
    found = re.search(r'nusagate_key_lookups_total\{answer="database"\} ([0-9.e+]+)', text)
    return int(float(found[1])) if found else 0
