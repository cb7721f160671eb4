"""The wire of ``/v1/chat/completions``: the upstream's bytes as they are, but for what the gateway asked for itself.

The gateway always asks for usage; a client that did not ask does not see it. From the chunk that finishes the last
choice on, everything is kept back until the request is in the ledger.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from gateway.ledger.model import Charge, EndReason
from gateway.metering.charge import Delivery
from gateway.metering.usage import read_chat_usage
from gateway.proxy.chat_request import ChatRequest
from gateway.proxy.sse import SseEvent
from gateway.proxy.wire import Closing, Failure, MalformedAnswer, UpstreamFailed
from gateway.upstream.catalogue import Model, Upstream
from gateway.upstream.client import UpstreamReset
from gateway.upstream.routing import UpstreamCall

PATH = "/chat/completions"
DONE = b"[DONE]"
NULL_USAGE = b',"usage":null'
"""What OpenAI's servers put into every chunk when usage was asked for; quotes inside strings are escaped, so these
bytes are never part of a text."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Text(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None

    def texts(self) -> list[str]:
        """Everything that the model wrote here, in one piece nearly always."""
        content = self.content
        has_more = self.tool_calls or self.refusal or self.reasoning_content or self.reasoning
        if isinstance(content, str) and not has_more:
            return [content]
        texts = [text for text in (self.refusal, self.reasoning_content or self.reasoning) if text]
        if isinstance(self.content, str):
            texts.append(self.content)
        for call in self.tool_calls or ():
            if call.function is not None:
                texts += [text for text in (call.function.name, call.function.arguments) if text]
        return texts


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = UNSET
    error: Any = None


DECODER = msgspec.json.Decoder(_Answer)


class ChatWire:
    """One chat request; see ``gateway.proxy.wire.Wire``."""

    def __init__(self, request: ChatRequest, model: Model, granted_tokens: int) -> None:
        self.stream = request.stream
        self.complete = False
        self._request = request
        self._model = model
        self._granted_tokens = granted_tokens
        self._usage: object = UNSET
        self._delivered_bytes = 0
        self._written: list[str] | None = None
        self._finished: dict[int, str] = {}
        self._is_writing = False
        self._kept_back = b""

    def prepare(self, upstream: Upstream) -> UpstreamCall:
        """Write the request for an upstream; chat is spoken by upstreams of both dialects."""
        self._written = [] if upstream.token_count_path else None
        accept = "text/event-stream" if self.stream else "application/json"
        return UpstreamCall(
            PATH, self._request.encode_for(upstream, self._model, self._granted_tokens), accept
        )

    def open(self) -> bytes:
        """A chat stream begins with the upstream's own first event."""
        return b""

    def feed(self, event: SseEvent) -> bytes:
        """Pass an event on as it came, or keep it back when the answer may be over.

        That is, when no choice is being written: another one may follow, and an upstream that was asked for several may
        write one only.
        """
        data = event.data
        if data is None:
            return event.raw
        if data == DONE:
            self.complete = True
            self._check_finished()
            self._kept_back += event.raw
            return b""
        self._kept_back += self._read(event, data)
        if not self._is_writing:
            return b""
        written, self._kept_back = self._kept_back, b""
        return written

    def take_body(self, body: bytes) -> None:
        """Read a whole answer; it is passed on byte for byte."""
        answer = _decode(body)
        if not answer.choices:
            raise MalformedAnswer
        self._take(answer)
        self._kept_back = body

    def ending(self) -> EndReason:
        """Complete, or incomplete where an answer was cut at its limit."""
        self._check_finished()
        return EndReason.INCOMPLETE if "length" in self._finished.values() else EndReason.COMPLETED

    def delivery(self) -> Delivery:
        """What the upstream reported, and how much it wrote."""
        return Delivery(
            reading=read_chat_usage(self._usage, output_expected=True),
            delivered_bytes=self._delivered_bytes,
        )

    def texts(self) -> tuple[str, str]:
        """The prompt and what was written, for an upstream that counts tokens."""
        return self._request.prompt_text, "".join(self._written or ())

    def close(self, _charged: Charge | None, failure: Failure | None) -> Closing:
        """The kept-back end of the answer, or an error event in its place."""
        if failure is None:
            return Closing(self._kept_back)
        error = {"message": failure.message, "type": "api_error", "param": None, "code": failure.code}
        body = {"error": error, "request_id": failure.request_id}
        return Closing(b"data: " + msgspec.json.encode(body) + b"\n\n")

    def _read(self, event: SseEvent, data: bytes) -> bytes:
        answer = _decode(data)
        if answer.error is not None:
            raise UpstreamFailed
        self._take(answer)
        if self._request.wants_usage or answer.usage is UNSET:
            return event.raw
        if answer.usage is None:
            return event.raw.replace(NULL_USAGE, b"")
        return _without_usage(data) if answer.choices else b""

    def _take(self, answer: _Answer) -> None:
        if answer.usage is not UNSET and answer.usage is not None:
            self._usage = answer.usage
        self._is_writing = False
        for choice in answer.choices or ():
            written = choice.delta or choice.message
            for text in written.texts() if written else ():
                self._delivered_bytes += (
                    len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                )
                if self._written is not None:
                    self._written.append(text)
            if choice.finish_reason:
                self._finished[choice.index] = choice.finish_reason
            self._is_writing |= choice.index not in self._finished

    def _check_finished(self) -> None:
        """A stream that ends without finishing its choices was cut off, however cleanly it was closed."""
        if self.stream and not self._finished:
            raise UpstreamReset


def _decode(data: bytes) -> _Answer:
    try:
        return DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedAnswer from error


def _without_usage(data: bytes) -> bytes:
    chunk = msgspec.json.decode(data)
    del chunk["usage"]
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
