"""Other gateways beside ours in the same run: ``python -m tests.bench.peers`` prints a table and one JSON document.

One after the other, on the same core, with the same load and the same upstream: nginx as a plain proxy, Nusagate with
everything on, and each peer with as little on as it allows. Each must first show that it passes on what the upstream
says. No figure is asserted.
"""

import argparse
import asyncio
import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.__main__ import QUIET_LOAD, versions, write
from tests.bench.clients import Target, finish_streams, open_loop, open_streams, percentile
from tests.bench.load import Load, Result, run_wrk
from tests.bench.machine import cpu_s, describe_machine, load_average, parent, proportional_bytes
from tests.bench.nginx import TEXT
from tests.bench.peer_programs import PEERS, Peer, Subject, make_ready
from tests.bench.scenarios import ANY_KEY, MICRO, MILLI, chat_body, responses_body, stream_body
from tests.bench.stand import CHAT_MODEL, BenchFailed, Stand, running_stand
from tests.bench.streams import TEXT as EVENT_TEXT

TIME_LIMIT_S = 300
CONNECTIONS = (32, 64)
MOST = max(CONNECTIONS)
WARM_UP_S = 2
ROUNDS = 10
"""Answers a connection that a measurement should see: where they are slow it lasts longer, up to ``LONGER_MAX`` times,
so that the requests which are cut off at its end weigh little."""

LONGER_MAX = 3
STREAMS = 20
EVENTS = 100
INTERVAL_MS = 40
"""Slow enough for every gateway: one that falls behind finds several events at once, which is cheaper for it."""

SLOW_PER_SECOND = 10
SLOW_S = 6
ANSWER_TIMEOUT_S = 30
QUIET_S = 0.5
QUIET_WITHIN_S = 15
QUIET_SHARE = 0.05
TOTAL_TOKENS = 53
OURS = "Nusagate"
WIDTH = 120
"""Of the table, in columns, where the output is no terminal."""

WHAT_CAN_GO_WRONG = (BenchFailed, OSError, RuntimeError, subprocess.SubprocessError)
console = Console(stderr=True)


class TooLong(Exception):
    """The run takes too long; what was measured so far still counts."""


class Figure(msgspec.Struct, frozen=True):
    """What was measured of one gateway, if it has such a thing; ``better`` says which way is better, if one is."""

    name: str
    value: float | None
    unit: str
    better: Literal["more", "less"] | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of every gateway; ``ours_is_better_by`` is above 1 where the other one does worse."""

    name: str
    unit: str
    values: dict[str, float]
    ours_is_better_by: dict[str, float]


class Report(msgspec.Struct, frozen=True):
    """The JSON document of a run."""

    measured_at: str
    command: str
    load_before: float
    machine: dict[str, object]
    gateways: dict[str, str]
    left_out: list[str]
    rows: list[Row]


def main() -> int:
    """Install what is missing, measure everything, report; returns the exit status."""
    options = read_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, _too_long)
    try:
        report = run(options)
    except (BenchFailed, TooLong) as error:
        console.print(f"[bold]{error}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table_of(report))
    for line in report.left_out:
        console.print(line)
    write(report, options.json)
    return 0


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the JSON document here, not to the output"
    )
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement (default 5)")
    parser.add_argument("--redis", action="store_true", help="let a Redis decide the limits of ours")
    parser.add_argument(
        "--limit", type=int, default=TIME_LIMIT_S, help="seconds after installing until the run ends"
    )
    return parser.parse_args()


def run(options: argparse.Namespace) -> Report:
    """Measure one gateway after the other; a peer that fails is named in the report, and the rest goes on."""
    left_out: list[str] = []
    ready = [peer for peer in PEERS if _is_ready(peer, left_out)]
    load_before = load_average()
    if load_before > QUIET_LOAD:
        console.print(f"The load of this machine is {load_before:.2f} already: the figures will be too low.")
    signal.alarm(options.limit)
    figures: dict[str, list[Figure]] = {}
    gateways: dict[str, str] = {}
    with running_stand(redis=options.redis) as stand:
        machine = describe_machine(*asyncio.run(versions(stand)))
        direct_ms = _slow_latency_ms(Target(stand.ports.fixed, "/v1/chat/completions", ANY_KEY))
        for subject in (_nginx(stand, str(machine["nginx"])), _ours(stand)):
            gateways[subject.name] = subject.version
            figures[subject.name] = measure(stand, subject, direct_ms=direct_ms, seconds=options.seconds)
        for peer in ready:
            try:
                figures[peer.name] = _measure_peer(stand, peer, direct_ms, options.seconds)
                gateways[peer.name] = peer.version
            except WHAT_CAN_GO_WRONG as error:
                left_out.append(f"{peer.name} is left out: {error}")
            except TooLong as error:
                left_out.append(f"{peer.name} and any after it are left out: {error}")
                break
    signal.alarm(0)
    return Report(
        datetime.now(UTC).isoformat(timespec="seconds"),
        "python -m tests.bench.peers " + " ".join(sys.argv[1:]),
        round(load_before, 2),
        machine,
        gateways,
        left_out,
        rows_of(figures),
    )


def measure(stand: Stand, subject: Subject, *, direct_ms: float, seconds: int) -> list[Figure]:
    """Check one gateway, then measure everything of it; ``direct_ms`` is the upstream's own latency."""
    console.print(f"[dim]{subject.name} …")
    check(subject)
    less, most = (_load(stand, subject, subject.chat, connections, seconds) for connections in CONNECTIONS)
    responses = _load(stand, subject, subject.responses, MOST, seconds)
    failures = sum(one.result.failures for one in (less, most, responses))
    added_ms = _slow_latency_ms(subject.chat) - direct_ms
    return [
        Figure(f"chat, {min(CONNECTIONS)} connections", less.result.per_second, "requests/s", "more"),
        Figure(f"chat, {MOST} connections", most.result.per_second, "requests/s", "more"),
        Figure(f"responses, {MOST} connections", responses.result.per_second, "requests/s", "more"),
        Figure("not answered with success", failures, "requests"),
        Figure(f"CPU of a request, chat, {MOST} connections", most.cpu_us, "us", "less"),
        Figure("beside that, CPU of Postgres", most.database_us if subject.name == OURS else None, "us"),
        Figure(f"added latency at {SLOW_PER_SECOND} requests/s, p50", added_ms, "ms", "less"),
        Figure(f"CPU of a streamed event, {STREAMS} streams", _event_cpu_us(subject), "us", "less"),
        Figure("memory after all this", proportional_bytes(subject.root) / 2**20, "MiB", "less"),
    ]


def check(subject: Subject) -> None:
    """Ask for one answer of each kind; ``BenchFailed`` unless it is what the upstream said."""
    for target, body, said in (
        (subject.chat, chat_body(model=CHAT_MODEL), _said_in_chat),
        (subject.responses, responses_body(store=False), _said_in_responses),
        (subject.streams, stream_body(events=3, interval_ms=1), _said_in_stream),
    ):
        status, answer = _post(target, body)
        expected = 3 * EVENT_TEXT if said is _said_in_stream else (TEXT, TOTAL_TOKENS)
        try:
            passed_on = status == http.HTTPStatus.OK and said(answer) == expected
        except (msgspec.DecodeError, LookupError, TypeError):
            passed_on = False
        if not passed_on:
            raise BenchFailed(f"{subject.name} answers {target.path} with {status} and {answer[:300]!r}")


def rows_of(figures: Mapping[str, Sequence[Figure]]) -> list[Row]:
    """Lay the figures of all gateways side by side, each compared with ours."""
    rows = []
    for number, ours in enumerate(figures[OURS]):
        named = {name: measured[number].value for name, measured in figures.items()}
        values = {name: value for name, value in named.items() if value is not None}
        ratios = {
            name: values[OURS] / value if ours.better == "more" else value / values[OURS]
            for name, value in values.items()
            if name != OURS and ours.better is not None and min(value, values[OURS]) > 0
        }
        rows.append(Row(name=ours.name, unit=ours.unit, values=values, ours_is_better_by=ratios))
    return rows


def table_of(report: Report) -> Table:
    """Lay the report out for a terminal; the factor behind a figure says how many times better ours is."""
    table = Table(title=f"Gateways on one core of {report.machine['cpu']}, {report.measured_at}")
    table.add_column("what")
    table.add_column("unit")
    for name, its_version in report.gateways.items():
        table.add_column(f"{name}\n{its_version}", justify="right")
    for row in report.rows:
        table.add_row(row.name, row.unit, *(_cell(row, name) for name in report.gateways))
    return table


class Measured(msgspec.Struct, frozen=True):
    """A result of wrk, and what it cost the gateway and the database, in microseconds of CPU a request."""

    result: Result
    cpu_us: float
    database_us: float


def _load(stand: Stand, subject: Subject, target: Target, connections: int, seconds: int) -> Measured:
    body = chat_body(model=CHAT_MODEL) if target is subject.chat else responses_body(store=False)
    load = Load(target.port, target.path, body, (target.key,), connections, target.headers)
    warm = run_wrk(stand.folder, load, seconds=WARM_UP_S, command=stand.load_command)
    _wait_until_quiet(subject.pid)
    enough_s = ROUNDS * connections / max(warm.per_second, 1)
    cpu, database = cpu_s(subject.pid), stand.database_cpu_s()
    result = run_wrk(
        stand.folder,
        load,
        seconds=int(min(max(enough_s, seconds), LONGER_MAX * seconds)),
        command=stand.load_command,
    )
    answered = max(result.requests, 1)
    return Measured(
        result,
        (cpu_s(subject.pid) - cpu) * MICRO / answered,
        (stand.database_cpu_s() - database) * MICRO / answered,
    )


def _wait_until_quiet(pid: int) -> None:
    """Wait until a gateway is done with what the warm-up left behind, so that it does not weigh on what follows."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < deadline:
        before = cpu_s(pid)
        time.sleep(QUIET_S)
        if cpu_s(pid) - before < QUIET_SHARE * QUIET_S:
            return


def _slow_latency_ms(target: Target) -> float:
    """Return the median latency at a pace that every gateway keeps up with."""
    body = chat_body(model=CHAT_MODEL)

    async def ask(seconds: float) -> list[float]:
        return await open_loop(target, body, per_second=SLOW_PER_SECOND, seconds=seconds, connections=4)

    uvloop.run(ask(1))
    return percentile(uvloop.run(ask(SLOW_S)), 50) * MILLI


def _event_cpu_us(subject: Subject) -> float:
    async def stream(events: int) -> None:
        body = stream_body(events=events, interval_ms=INTERVAL_MS)
        await finish_streams(
            await open_streams(subject.streams, body, count=STREAMS, spread_s=INTERVAL_MS / MILLI)
        )

    uvloop.run(stream(EVENTS // 10))
    before = cpu_s(subject.pid)
    uvloop.run(stream(EVENTS))
    return (cpu_s(subject.pid) - before) * MICRO / (STREAMS * EVENTS)


def _nginx(stand: Stand, its_version: str) -> Subject:
    port = stand.ports.proxy
    return Subject(
        name="nginx",
        version=its_version,
        pid=stand.proxy,
        root=stand.proxy,
        chat=Target(port, "/v1/chat/completions", ANY_KEY),
        responses=Target(port, "/v1/responses", ANY_KEY),
        streams=Target(port, "/streams/v1/chat/completions", ANY_KEY),
    )


def _ours(stand: Stand) -> Subject:
    port, key = stand.ports.gateway, stand.keys[0]
    chat = Target(port, "/v1/chat/completions", key)
    return Subject(
        name=OURS,
        version=version("nusagate"),
        pid=stand.gateway,
        root=parent(stand.gateway),
        chat=chat,
        responses=Target(port, "/v1/responses", key),
        streams=chat,
    )


def _measure_peer(stand: Stand, peer: Peer, direct_ms: float, seconds: int) -> list[Figure]:
    process, subject = peer.start(peer, stand)
    try:
        return measure(stand, subject, direct_ms=direct_ms, seconds=seconds)
    finally:
        process.stop()


def _is_ready(peer: Peer, left_out: list[str]) -> bool:
    console.print(f"[dim]{peer.name} {peer.version}: installing, unless it is there …")
    try:
        make_ready(peer)
    except WHAT_CAN_GO_WRONG as error:
        left_out.append(f"{peer.name} is left out: {error}")
        return False
    return True


def _post(target: Target, body: bytes) -> tuple[int, bytes]:
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=ANSWER_TIMEOUT_S)
    with closing(connection):
        connection.request("POST", target.path, body, {**headers, **dict(target.headers)})
        answer = connection.getresponse()
        return answer.status, answer.read()


def _said_in_chat(answer: bytes) -> tuple[str, int]:
    whole = msgspec.json.decode(answer)
    return whole["choices"][0]["message"]["content"], whole["usage"]["total_tokens"]


def _said_in_responses(answer: bytes) -> tuple[str, int]:
    whole = msgspec.json.decode(answer)
    return whole["output"][0]["content"][0]["text"], whole["usage"]["total_tokens"]


def _said_in_stream(answer: bytes) -> str:
    lines = [line.removeprefix(b"data:").strip() for line in answer.splitlines() if line.startswith(b"data:")]
    events: list[Any] = [msgspec.json.decode(line) for line in lines if line != b"[DONE]"]
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ())
    )


def _cell(row: Row, name: str) -> str:
    value = row.values.get(name)
    if value is None:
        return "-"
    shown = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"
    factor = row.ours_is_better_by.get(name)
    return shown if factor is None else f"{shown} ({factor:,.3g}x)"


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLong("the run takes too long; --limit sets its bound in seconds.")


if __name__ == "__main__":
    sys.exit(main())
