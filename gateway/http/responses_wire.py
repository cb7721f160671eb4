"""The wire of ``/v1/responses``: joins the relay, which knows no API, to the Responses API, which knows no relay."""

from collections.abc import Sequence

import msgspec

from gateway.clock import unix_seconds
from gateway.ids import response_label
from gateway.ledger.model import Charge, EndReason, KeptAnswer
from gateway.metering.charge import Delivery
from gateway.metering.meter import KEPT_MAX_BYTES
from gateway.metering.usage import read_chat_usage, read_responses_usage
from gateway.proxy.sse import SseEvent
from gateway.proxy.wire import Closing, Failure, MalformedAnswer, UpstreamFailed
from gateway.quota.model import Reservation
from gateway.responses.chat_stream import ChatStreamTranslator
from gateway.responses.conversation import encode_items
from gateway.responses.events import DONE
from gateway.responses.from_chat import output_from_chat
from gateway.responses.from_responses import output_from_responses
from gateway.responses.items import Item
from gateway.responses.model import (
    ENCODER,
    Answer,
    MalformedUpstreamAnswer,
    ResponseError,
    ResponseStatus,
    end_response,
    new_response,
)
from gateway.responses.prompt import prompt_text, texts_of
from gateway.responses.request import ResponseRequest
from gateway.responses.responses_stream import ResponsesStreamTranslator
from gateway.responses.stream import StreamTranslator
from gateway.responses.to_chat import chat_body
from gateway.responses.to_responses import responses_body
from gateway.upstream.catalogue import Dialect, Model, Upstream
from gateway.upstream.client import UpstreamReset
from gateway.upstream.routing import UpstreamCall

CHAT_PATH = "/chat/completions"
RESPONSES_PATH = "/responses"
JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
STREAM_TRANSLATORS: dict[Dialect, type[StreamTranslator]] = {
    Dialect.CHAT: ChatStreamTranslator,
    Dialect.RESPONSES: ResponsesStreamTranslator,
}
EMPTY = Answer(output=(), status=ResponseStatus.FAILED)


def responses_wire(
    request: ResponseRequest,
    conversation: Sequence[Item],
    model: Model,
    reservation: Reservation,
    *,
    keep_days: int,
) -> "WholeWire | StreamWire":
    """Make the wire of one request of the Responses API."""
    wire = StreamWire if request.stream else WholeWire
    return wire(request, conversation, model, reservation, keep_days=keep_days)


class _ResponsesWire:
    """What both shapes of an answer have in common: the request, and what is kept."""

    _accept = JSON_TYPE

    def __init__(
        self,
        request: ResponseRequest,
        conversation: Sequence[Item],
        model: Model,
        reservation: Reservation,
        *,
        keep_days: int,
    ) -> None:
        self.stream = request.stream
        self.complete = False
        self._request = request
        self._conversation = conversation
        self._model = model
        self._granted_tokens = reservation.granted_output_tokens
        self._keep_days = keep_days
        self._draft = new_response(
            request,
            response_id=response_label(reservation.request_id),
            created_at=int(reservation.admitted_at.timestamp()),
            default_temperature=model.default_temperature,
        )
        self._dialect = Dialect.CHAT

    def prepare(self, upstream: Upstream) -> UpstreamCall:
        """Write the request in the upstream's dialect."""
        self._dialect = upstream.dialect
        if upstream.dialect is Dialect.CHAT:
            return UpstreamCall(CHAT_PATH, self._chat_body(upstream), self._accept)
        return UpstreamCall(RESPONSES_PATH, self._responses_body(), self._accept)

    def _delivery(self, usage: object, delivered_bytes: int) -> Delivery:
        reading = (
            read_chat_usage(usage, output_expected=True)
            if self._dialect is Dialect.CHAT
            else read_responses_usage(usage)
        )
        return Delivery(reading=reading, delivered_bytes=delivered_bytes)

    def _texts(self, output: Sequence[Item]) -> tuple[str, str]:
        written = "".join(text for item in output for text in texts_of(item))
        return prompt_text(self._request, self._conversation), written

    def _stores(self, failure: Failure | None, delivered_bytes: int) -> bool:
        return self._request.store and failure is None and delivered_bytes <= KEPT_MAX_BYTES

    def _kept(self, response_json: bytes) -> KeptAnswer:
        return KeptAnswer(
            response_id=self._draft.id,
            previous_response_id=self._request.previous_response_id,
            keep_days=self._keep_days,
            input_items=msgspec.Raw(encode_items(self._request.input)),
            response=msgspec.Raw(response_json),
        )

    def _chat_body(self, upstream: Upstream) -> bytes:
        return chat_body(
            self._request,
            self._conversation,
            upstream_model=self._model.upstream_model,
            max_output_tokens=self._granted_tokens,
            default_temperature=self._model.default_temperature,
            continuous_usage=upstream.continuous_usage,
        )

    def _responses_body(self) -> bytes:
        return responses_body(
            self._request,
            self._conversation,
            upstream_model=self._model.upstream_model,
            max_output_tokens=self._granted_tokens,
            default_temperature=self._model.default_temperature,
        )


class WholeWire(_ResponsesWire):
    """A request whose answer is one object; see ``gateway.proxy.wire.Wire``."""

    _answer = EMPTY

    def open(self) -> bytes:
        """Nothing is sent before the object."""
        return b""

    def feed(self, _event: SseEvent) -> bytes:
        """An answer that is one object has no events."""
        raise MalformedAnswer

    def take_body(self, body: bytes) -> None:
        """Read a whole answer."""
        read = output_from_chat if self._dialect is Dialect.CHAT else output_from_responses
        try:
            self._answer = read(body)
        except MalformedUpstreamAnswer as error:
            raise MalformedAnswer from error
        if self._answer.status is ResponseStatus.FAILED:
            raise UpstreamFailed

    def ending(self) -> EndReason:
        """Complete or incomplete, as the answer says."""
        return _ending(self._answer)

    def delivery(self) -> Delivery:
        """What the upstream reported, and how much it wrote."""
        return self._delivery(self._answer.raw_usage, self._answer.delivered_text_bytes)

    def texts(self) -> tuple[str, str]:
        """The prompt and what was written, for an upstream that counts tokens."""
        return self._texts(self._answer.output)

    def close(self, charged: Charge | None, failure: Failure | None) -> Closing:
        """The object, and what is kept of it."""
        stored = self._stores(failure, self._answer.delivered_text_bytes)
        response = end_response(
            self._draft,
            self._answer,
            None if charged is None else charged.counts,
            completed_at=unix_seconds(),
            stored=stored,
            error=_error_of(failure),
        )
        last = ENCODER.encode(response)
        return Closing(last, self._kept(last) if stored else None)


class StreamWire(_ResponsesWire):
    """A request whose answer is a stream of events; see ``gateway.proxy.wire.Wire``."""

    _accept = SSE_TYPE

    def __init__(
        self,
        request: ResponseRequest,
        conversation: Sequence[Item],
        model: Model,
        reservation: Reservation,
        *,
        keep_days: int,
    ) -> None:
        super().__init__(request, conversation, model, reservation, keep_days=keep_days)
        self._stream: StreamTranslator = ChatStreamTranslator(self._draft)

    def prepare(self, upstream: Upstream) -> UpstreamCall:
        """Write the request in the upstream's dialect, and get ready to translate from it."""
        self._stream = STREAM_TRANSLATORS[upstream.dialect](self._draft)
        return super().prepare(upstream)

    def open(self) -> bytes:
        """The opening events."""
        return b"".join(self._stream.start())

    def feed(self, event: SseEvent) -> bytes:
        """Translate one event of the upstream."""
        if event.data is None:
            return b""
        try:
            frames = self._stream.feed(event.data)
        except MalformedUpstreamAnswer as error:
            raise MalformedAnswer from error
        if self._stream.upstream_error is not None:
            raise UpstreamFailed
        self.complete = event.data == b"[DONE]" or (self._dialect is Dialect.RESPONSES and self._finished)
        return b"".join(frames)

    def take_body(self, _body: bytes) -> None:
        """A stream has no body but its events."""
        raise MalformedAnswer

    def ending(self) -> EndReason:
        """Complete or incomplete; a stream that ended without saying so was cut off."""
        if not self._finished:
            raise UpstreamReset
        return _ending(self._stream.answer())

    def delivery(self) -> Delivery:
        """What the upstream reported, and how much it wrote."""
        return self._delivery(self._stream.raw_usage, self._stream.delivered_text_bytes)

    def texts(self) -> tuple[str, str]:
        """The prompt and what was written, for an upstream that counts tokens."""
        return self._texts(self._stream.output_items())

    def close(self, charged: Charge | None, failure: Failure | None) -> Closing:
        """The events that close the stream around the object, and what is kept of it."""
        stored = self._stores(failure, self._stream.delivered_text_bytes)
        events = self._stream.finish() if failure is None else []
        terminal = self._stream.terminal(
            None if charged is None else charged.counts,
            completed_at=unix_seconds(),
            stored=stored,
            error=_error_of(failure),
        )
        last = b"".join((*events, terminal.frame, DONE))
        return Closing(last, self._kept(terminal.response_json) if stored else None)

    @property
    def _finished(self) -> bool:
        return self._stream.finish_reason is not None


def _ending(answer: Answer) -> EndReason:
    return EndReason.INCOMPLETE if answer.status is ResponseStatus.INCOMPLETE else EndReason.COMPLETED


def _error_of(failure: Failure | None) -> ResponseError | None:
    return None if failure is None else ResponseError(failure.code, failure.message)
