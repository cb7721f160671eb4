"""How an answer leaves: at its pace, with its faults, and never its last byte before the journal has it."""

import gzip

import msgspec

from gateway.clock import SystemClock
from gateway.upstream.simulator.frames import Frame, Stream, encode_frames
from gateway.upstream.simulator.journal import Ending, Journal, JournalLine
from gateway.upstream.simulator.script import BodyKind, Fault, FaultKind, Script, UsageKind
from gateway.upstream.simulator.wire import ClientGone, Exchange

HANG_MAX_S = 600
MALFORMED = b'{"id": oops'


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal will say about an answer, but for how it ends."""

    request_id: str | None
    id: str
    dialect: str
    is_stream: bool
    model: str
    input_tokens: int
    output_tokens: int
    sends_usage: bool
    script: Script


class JsonPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A body as it will be sent; a declared length beyond it leaves the client waiting for the rest."""

    body: bytes
    declared_bytes: int
    ending: Ending
    hangs: bool = False
    headers: dict[str, str] = {}


async def deliver_json(exchange: Exchange, journal: Journal, served: Served, body: bytes) -> None:
    """Send one JSON object, whole or spoiled."""
    plan = plan_json(body, served.script)
    delivered = served.output_tokens if plan.ending == "complete" else 0
    if not plan.hangs:
        await journal.write(_line(served, plan.ending, delivered))
    length = {"content-type": "application/json", "content-length": str(plan.declared_bytes)}
    await exchange.start(200, {**length, **plan.headers})
    if len(plan.body) == plan.declared_bytes:
        await exchange.finish(plan.body)
        return
    try:
        await exchange.write(plan.body)
        await exchange.flush()
        if plan.hangs:
            await exchange.pause(HANG_MAX_S)
    except ClientGone:
        if plan.hangs:
            await journal.write(_line(served, "client_gone", 0))


def plan_json(body: bytes, script: Script) -> JsonPlan:
    """Decide what becomes of a JSON body under a script."""
    half = body[: len(body) // 2]
    if (fault := script.fault) is not None:
        if fault.kind is FaultKind.ERROR:
            return JsonPlan(body=half, declared_bytes=len(half), ending="error")
        hangs = fault.kind is FaultKind.HANG
        return JsonPlan(body=half, declared_bytes=len(body), ending="reset", hangs=hangs)
    if script.body is BodyKind.EMPTY:
        return JsonPlan(body=b"", declared_bytes=0, ending="error")
    if script.body is BodyKind.MALFORMED:
        return JsonPlan(body=MALFORMED, declared_bytes=len(MALFORMED), ending="error")
    if script.body is BodyKind.TRUNCATED:
        return JsonPlan(body=half, declared_bytes=len(body), ending="error")
    headers = {}
    if script.body is BodyKind.GZIP:
        body, headers = gzip.compress(body), {"content-encoding": "gzip"}
    return JsonPlan(body=body, declared_bytes=len(body), ending="complete", headers=headers)


async def deliver_stream(exchange: Exchange, journal: Journal, served: Served, stream: Stream) -> None:
    """Send one event stream, whole or spoiled."""
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    if served.script.body is BodyKind.GZIP:
        await _deliver_compressed(exchange, journal, served, stream, headers=headers)
        return
    await exchange.start(200, headers)
    if served.script.body is BodyKind.EMPTY:
        await journal.write(_line(served, "error", 0))
        await exchange.finish(b"")
        return
    await _StreamDelivery(exchange, journal, served, stream).run()


class _StreamDelivery:
    """One event stream on its way, and how many tokens have left."""

    def __init__(self, exchange: Exchange, journal: Journal, served: Served, stream: Stream) -> None:
        self._delivered_tokens = 0
        self._is_noted = False
        self._exchange = exchange
        self._journal = journal
        self._served = served
        self._stream = stream

    async def run(self) -> None:
        """Send everything up to the end, the fault, or the client's departure; the journal gets one line."""
        try:
            await self._send()
        except ClientGone:
            if not self._is_noted:
                await self._note("client_gone")

    async def _send(self) -> None:
        await self._write(self._stream.opening())
        if self._served.script.body is BodyKind.MALFORMED:
            await self._write([Frame(data=MALFORMED)])
        fault = self._served.script.fault
        for frame in self._stream.pieces():
            if self._is_due(fault):
                break
            await self._write([frame])
            self._delivered_tokens += frame.tokens
            await self._exchange.pause(self._served.script.pace_ms / 1000)
        if fault is not None and self._is_due(fault):
            await self._fail(fault.kind)
        else:
            await self._complete()

    def _is_due(self, fault: Fault | None) -> bool:
        return fault is not None and self._delivered_tokens >= fault.after_tokens

    async def _complete(self) -> None:
        tail = self._encode(self._stream.closing())
        ending: Ending = "complete"
        if self._served.script.body is BodyKind.TRUNCATED:
            tail, ending = tail[: len(tail) // 2], "error"
        await self._note(ending)
        await self._exchange.finish(tail)

    async def _fail(self, kind: FaultKind) -> None:
        """End with an error event, or by leaving the body without its end, or not at all."""
        if kind is FaultKind.ERROR:
            await self._note("error")
            await self._exchange.finish(self._encode(self._stream.failure()))
            return
        await self._exchange.flush()
        if kind is FaultKind.HANG:
            await self._exchange.pause(HANG_MAX_S)
        await self._note("reset")

    async def _note(self, ending: Ending) -> None:
        self._is_noted = True
        await self._journal.write(_line(self._served, ending, self._delivered_tokens))

    async def _write(self, frames: list[Frame]) -> None:
        await self._exchange.write(self._encode(frames))

    def _encode(self, frames: list[Frame]) -> bytes:
        script = self._served.script
        return encode_frames(frames, script.newline, comments=script.comments)


async def _deliver_compressed(
    exchange: Exchange, journal: Journal, served: Served, stream: Stream, *, headers: dict[str, str]
) -> None:
    """Send a stream gzipped as a whole, which nobody asked for."""
    frames = [*stream.opening(), *stream.pieces(), *stream.closing()]
    body = gzip.compress(encode_frames(frames, served.script.newline, comments=served.script.comments))
    await journal.write(_line(served, "complete", served.output_tokens))
    await exchange.start(200, {**headers, "content-encoding": "gzip"})
    await exchange.finish(body)


def _line(served: Served, ending: Ending, delivered_tokens: int) -> JournalLine:
    return JournalLine(
        request_id=served.request_id,
        id=served.id,
        at=SystemClock().now().isoformat(timespec="milliseconds"),
        dialect=served.dialect,
        stream=served.is_stream,
        model=served.model,
        input_tokens=served.input_tokens,
        output_tokens=served.output_tokens,
        usage=_usage_told(served, ending),
        ending=ending,
        delivered_tokens=delivered_tokens,
    )


def _usage_told(served: Served, ending: Ending) -> str:
    """Say what the client was told about usage: the truth (``sent``), nothing, or something else."""
    if ending != "complete":
        return "unsent"
    kind = served.script.usage
    if kind is UsageKind.EXACT:
        return "sent" if served.sends_usage else UsageKind.MISSING.value
    return kind.value if served.sends_usage else UsageKind.MISSING.value
