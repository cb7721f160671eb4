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
    ResponseObject,
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
STREAM_TRANSLATORS: dict[Dialect, type[StreamTranslator]] = {
    Dialect.CHAT: ChatStreamTranslator,
    Dialect.RESPONSES: ResponsesStreamTranslator,
}
EMPTY = Answer(output=(), status=ResponseStatus.FAILED)


class ResponsesWire:
    """One request of the Responses API; see ``gateway.proxy.wire.Wire``."""

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
        self._stream: StreamTranslator = ChatStreamTranslator(self._draft)
        self._whole: Answer | None = None

    def prepare(self, upstream: Upstream) -> UpstreamCall:
        """Write the request in the upstream's dialect."""
        self._dialect = upstream.dialect
        accept = "text/event-stream" if self.stream else "application/json"
        if self.stream:
            self._stream = STREAM_TRANSLATORS[upstream.dialect](self._draft)
        if upstream.dialect is Dialect.CHAT:
            return UpstreamCall(CHAT_PATH, self._chat_body(upstream), accept)
        return UpstreamCall(RESPONSES_PATH, self._responses_body(), accept)

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

    def take_body(self, body: bytes) -> None:
        """Read a whole answer."""
        read = output_from_chat if self._dialect is Dialect.CHAT else output_from_responses
        try:
            self._whole = read(body)
        except MalformedUpstreamAnswer as error:
            raise MalformedAnswer from error
        if self._whole.status is ResponseStatus.FAILED:
            raise UpstreamFailed

    def ending(self) -> EndReason:
        """Complete or incomplete; a stream that ended without saying so was cut off."""
        if self.stream and not self._finished:
            raise UpstreamReset
        answer = self._answer()
        return EndReason.INCOMPLETE if answer.status is ResponseStatus.INCOMPLETE else EndReason.COMPLETED

    def delivery(self) -> Delivery:
        """What the upstream reported, and how much it wrote."""
        if self.stream:
            usage, delivered_bytes = self._stream.raw_usage, self._stream.delivered_text_bytes
        else:
            answer = self._whole or EMPTY
            usage, delivered_bytes = answer.raw_usage, answer.delivered_text_bytes
        reading = (
            read_chat_usage(usage, output_expected=True)
            if self._dialect is Dialect.CHAT
            else read_responses_usage(usage)
        )
        return Delivery(reading=reading, delivered_bytes=delivered_bytes)

    def texts(self) -> tuple[str, str]:
        """The prompt and what was written, for an upstream that counts tokens."""
        output = self._stream.output_items() if self.stream else self._answer().output
        written = "".join(text for item in output for text in texts_of(item))
        return prompt_text(self._request, self._conversation), written

    def close(self, charged: Charge | None, failure: Failure | None) -> Closing:
        """The object, or the events that close the stream around it, and what is kept of it."""
        counts = None if charged is None else charged.counts
        error = None if failure is None else ResponseError(failure.code, failure.message)
        is_small = self.delivery().delivered_bytes <= KEPT_MAX_BYTES
        stored = self._request.store and failure is None and is_small
        if self.stream:
            events = self._stream.finish() if failure is None else []
            terminal = self._stream.terminal(counts, completed_at=unix_seconds(), stored=stored, error=error)
            last, response_json = b"".join((*events, terminal.frame, DONE)), terminal.response_json
        else:
            response: ResponseObject = end_response(
                self._draft, self._answer(), counts, completed_at=unix_seconds(), stored=stored, error=error
            )
            last = response_json = ENCODER.encode(response)
        return Closing(last, self._kept(response_json) if stored else None)

    @property
    def _finished(self) -> bool:
        return self._stream.finish_reason is not None

    def _answer(self) -> Answer:
        return self._stream.answer() if self.stream else self._whole or EMPTY

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
