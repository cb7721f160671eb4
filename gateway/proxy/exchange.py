"""One admitted request on its way through the gateway: sent, relayed, settled, answered, in that order.

An exchange runs in a task of its own, so that a client that leaves cannot stop the counting. Whatever happens
while it relays becomes one of the endings; then it settles; then, and only then, the client gets the last bytes.
"""

from collections.abc import Callable

import msgspec

from gateway.errors import NusagateError
from gateway.ledger.model import Charge, EndReason, Heartbeat
from gateway.ledger.service import SettlementLost
from gateway.metering.bounds import ESTIMATED_BYTES_PER_TOKEN
from gateway.metering.charge import Delivery
from gateway.metering.meter import Hold
from gateway.proxy.downstream import Downstream, Headers, Send
from gateway.proxy.sse import SseEvent, SseEventTooLarge, SseSplitter
from gateway.proxy.wire import (
    Closing,
    Failure,
    MalformedAnswer,
    ShuttingDown,
    UpstreamFailed,
    UpstreamRefused,
    Wire,
)
from gateway.runtime.failpoints import failpoint
from gateway.runtime.interrupt import Interrupt, Interrupted
from gateway.runtime.logging import describe, get_logger
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts
from gateway.upstream.catalogue import Model, Upstream
from gateway.upstream.client import UpstreamAnswer, UpstreamClient
from gateway.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstream.routing import open_first

log = get_logger("proxy")

SSE_TYPE = "text/event-stream"
JSON_HEADERS = ((b"content-type", b"application/json"),)
SSE_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
SUCCESS = 200
REFUSALS = frozenset({400, 413, 422})
"""Statuses with which an upstream says that the request itself is wrong; the client is told so."""

ENDINGS: dict[type[NusagateError], EndReason] = {
    UpstreamUnreachable: EndReason.UPSTREAM_ERROR,
    UpstreamTimeout: EndReason.UPSTREAM_TIMEOUT,
    UpstreamReset: EndReason.UPSTREAM_RESET,
    UpstreamAnswerTooLarge: EndReason.UPSTREAM_ERROR,
    UpstreamFailed: EndReason.UPSTREAM_ERROR,
    UpstreamRefused: EndReason.UPSTREAM_ERROR,
    MalformedAnswer: EndReason.UPSTREAM_ERROR,
    SseEventTooLarge: EndReason.UPSTREAM_ERROR,
}
"""Errors of an upstream, and the ending that each is."""


class Transport(msgspec.Struct, frozen=True):
    """What every exchange of a process shares."""

    client: UpstreamClient
    limits: Limits


class Exchange:
    """One request's relay and its end; ``run`` never raises."""

    def __init__(
        self,
        transport: Transport,
        hold: Hold,
        model: Model,
        wire: Wire,
        *,
        send: Send,
        headers: Headers,
        request_id: str,
        fail: Callable[[NusagateError, Headers], tuple[int, Headers, bytes]],
        replay_key: str | None,
    ) -> None:
        self._transport = transport
        self._hold = hold
        self._model = model
        self._wire = wire
        self._headers = headers
        self._request_id = request_id
        self._fail = fail
        self._replay_key = replay_key
        self._upstream: Upstream | None = None
        self._error: NusagateError | None = None
        self.interrupt: Interrupt[EndReason] = Interrupt()
        self.client_left = False
        self.answered = False
        self.downstream = Downstream(
            send, slow_timeout_s=transport.limits.slow_client_timeout_s, on_slow=self.cancel_for_client
        )

    @property
    def hold(self) -> Hold:
        """The reservation that this exchange settles."""
        return self._hold

    @property
    def _upstream_name(self) -> str | None:
        return None if self._upstream is None else self._upstream.name

    @property
    def _upstream_request_id(self) -> str:
        """The digits of the request's id: llama.cpp's Python server refuses an ``x-request-id`` that is no UUID."""
        return self._hold.request.request_id.hex

    @property
    def remaining_output_tokens(self) -> int:
        """How much the upstream may still write, by what was delivered; never negative."""
        delivered = self._wire.delivery().delivered_bytes // ESTIMATED_BYTES_PER_TOKEN
        granted = self._hold.request.choices * self._hold.reservation.granted_output_tokens
        return max(0, granted - delivered)

    def heartbeat(self) -> Heartbeat:
        """Say how much was delivered so far."""
        return Heartbeat(
            self._hold.request.request_id, self._wire.delivery().delivered_bytes, self._upstream_name
        )

    def cancel_for_client(self) -> None:
        """Stop the upstream, because nobody is there to listen."""
        self.client_left = True
        self.downstream.gone = True
        self.interrupt.trigger(EndReason.CLIENT_GONE_CANCELLED)

    async def run(self) -> None:
        """Relay, settle, and send the end."""
        failpoint("request.after_hold")
        ending = await self._relay()
        charged = self._hold.charge(ending, await self._delivery())
        closing = self._close(charged, ending)
        failpoint("request.before_commit")
        try:
            await self._hold.settle(
                ending,
                charged,
                upstream=self._upstream_name,
                kept=closing.kept,
                replay=None if self._replay_key is None or self._error else (self._replay_key, closing.last),
            )
        except Exception as error:  # the client must not see an end that was not recorded
            log.error("settlement failed", request_id=self._request_id, **describe(error))
            self._error = SettlementLost()
            closing = self._wire.close(None, self._failure(EndReason.GATEWAY_CRASH))
        failpoint("request.after_commit")
        await self._answer(closing.last)
        failpoint("request.after_last_byte")

    async def _relay(self) -> EndReason:
        """Bring the upstream's answer to the client and name how that ended."""
        answer: UpstreamAnswer | None = None
        try:
            with self.interrupt:
                answer = await self._open()
                await (self._relay_stream(answer) if self._wire.stream else self._take_body(answer))
            return self._ending()
        except Interrupted:
            assert self.interrupt.reason is not None
            return self.interrupt.reason
        except tuple(ENDINGS) as error:
            self._error = error
            return ENDINGS[type(error)]
        except Exception as error:  # a bug here must still settle what was served
            log.error("relay failed", request_id=self._request_id, **describe(error))
            self._error = NusagateError()
            return EndReason.GATEWAY_CRASH
        finally:
            if answer is not None:
                await answer.close()

    def _ending(self) -> EndReason:
        """Name how an answer ended whose upstream has finished; one that was cut off raises, whoever is there to see it."""
        ending = self._wire.ending()
        return EndReason.CLIENT_GONE_DRAINED if self.client_left else ending

    async def _open(self) -> UpstreamAnswer:
        failpoint("request.before_send")
        opened = await open_first(
            self._transport.client,
            self._model,
            self._wire.prepare,
            request_id=self._upstream_request_id,
            total_timeout_s=self._transport.limits.request_timeout_s,
        )
        self._upstream = opened.upstream
        failpoint("request.after_upstream_headers")
        if opened.answer.status != SUCCESS:
            await self._refuse(opened.answer)
        return opened.answer

    async def _refuse(self, answer: UpstreamAnswer) -> None:
        try:
            body = await answer.read_all(self._transport.limits.max_event_bytes)
        finally:
            await answer.close()
        log.warning(
            "upstream refused",
            request_id=self._request_id,
            upstream=self._upstream_name,
            status=answer.status,
        )
        if answer.status in REFUSALS:
            raise UpstreamRefused.from_body(body)
        raise UpstreamFailed

    async def _relay_stream(self, answer: UpstreamAnswer) -> None:
        if answer.content_type != SSE_TYPE:
            raise MalformedAnswer
        wire, downstream = self._wire, self.downstream
        splitter = SseSplitter(max_event_bytes=self._transport.limits.max_event_bytes)
        await downstream.start(SUCCESS, (*SSE_HEADERS, *self._headers))
        await downstream.write(wire.open())
        while not wire.complete:
            chunk = await answer.read_chunk()
            if chunk is None:
                return
            self._hold.mark_first_byte()
            failpoint("request.in_event")
            events = splitter.feed(chunk)
            if len(events) == 1:
                await downstream.write(wire.feed(events[0]))
            else:
                await self._relay_piece(events)
        failpoint("request.after_usage")

    async def _relay_piece(self, events: list[SseEvent]) -> None:
        """Relay events that came in one piece; those before one that fails are charged, and so are delivered."""
        written: list[bytes] = []
        try:
            for event in events:
                written.append(self._wire.feed(event))  # noqa: PERF401 - a comprehension would lose them
        finally:
            await self.downstream.write(b"".join(written))

    async def _take_body(self, answer: UpstreamAnswer) -> None:
        body = await answer.read_all(self._transport.limits.max_answer_bytes)
        self._hold.mark_first_byte()
        self._wire.take_body(body)
        failpoint("request.after_usage")

    async def _delivery(self) -> Delivery:
        """Take stock of the answer; where the upstream told no usage but counts tokens, ask it to."""
        delivery = self._wire.delivery()
        upstream = self._upstream
        if (
            upstream is None
            or upstream.token_count_path is None
            or delivery.reading.counts
            or not delivery.delivered_bytes
        ):
            return delivery
        texts = self._wire.texts()
        count = self._transport.client.count_tokens
        request_id = self._upstream_request_id
        counted = [await count(upstream, text, request_id=request_id) if text else 0 for text in texts]
        if None in counted:
            return delivery
        input_tokens, output_tokens = counted
        counts = TokenCounts(input_text=input_tokens or 0, output_text=output_tokens or 0)
        return msgspec.structs.replace(delivery, counted=counts)

    def _close(self, charged: Charge | None, ending: EndReason) -> Closing:
        """Have the end of the answer written, or an error in its place."""
        try:
            return self._wire.close(charged, self._failure(ending))
        except Exception as error:  # a bug here must still settle what was served
            log.error("closing failed", request_id=self._request_id, **describe(error))
            self._error = NusagateError()
            return self._wire.close(None, self._failure(ending))

    def _failure(self, ending: EndReason) -> Failure | None:
        """Say what went wrong, if anything did, in the words of the error table."""
        if self._error is None and ending is EndReason.DRAINED_AT_SHUTDOWN:
            self._error = ShuttingDown()
        error = self._error
        return None if error is None else Failure(error.code, error.message, self._request_id)

    async def _answer(self, last: bytes) -> None:
        """Send what was kept back, or the error, in the way that is still open."""
        self.answered = True
        if self.downstream.started:
            failpoint("request.before_last_byte")
            await self.downstream.finish(last)
            return
        status, headers, body = (
            (SUCCESS, (*JSON_HEADERS, *self._headers), last)
            if self._error is None
            else self._fail(self._error, self._headers)
        )
        failpoint("request.before_last_byte")
        await self.downstream.answer(status, headers, body)
