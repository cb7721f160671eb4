"""Streamed answers of upstreams that speak Chat Completions, translated chunk by chunk.

A chunk becomes at most a few events, and no text is copied until its part ends. Thoughts and messages are
closed as soon as something else begins; calls stay open until the end, because their pieces may be mixed.
"""

from msgspec import UNSET

from gateway.responses.events import DONE_DATA, REASONING, REFUSAL, TEXT, PartKind
from gateway.responses.from_chat import (
    INCOMPLETE_REASONS,
    ChatFunction,
    ChatMessage,
    ChatToolCall,
    decode_chat,
    status_after,
    unique_call_id,
)
from gateway.responses.items import Item, ItemStatus, utf8_length
from gateway.responses.model import Answer, ResponseObject, ResponseStatus
from gateway.responses.stream import StreamTranslator
from gateway.responses.writing import MakeTextItem, WritingCall, WritingText, make_message, make_reasoning


class ChatStreamTranslator(StreamTranslator):
    """Makes a response out of the chunks of one chat completion."""

    def __init__(self, draft: ResponseObject) -> None:
        super().__init__(draft)
        self._items: list[WritingText | WritingCall] = []
        self._text: WritingText | None = None
        self._calls: dict[int, WritingCall] = {}
        self._call_ids: set[str] = set()

    def feed(self, data: bytes) -> list[bytes]:
        """Translate one chunk; choices other than the first are passed over."""
        if data == DONE_DATA:
            return []
        chunk = decode_chat(data)
        if chunk.usage is not UNSET and chunk.usage is not None:
            self.raw_usage = chunk.usage
        if chunk.error is not None:
            self.upstream_error = chunk.error
        for choice in chunk.choices or ():
            if choice.index == 0:
                if choice.delta is not None:
                    self._take_delta(choice.delta)
                self.finish_reason = choice.finish_reason or self.finish_reason
        return self._events.take()

    def finish(self) -> list[bytes]:
        """Close all that is open; of an answer that was cut off, the last item is incomplete."""
        cut = self.finish_reason in INCOMPLETE_REASONS
        for item in self._items:
            last = item is self._items[-1]
            item.close(ItemStatus.INCOMPLETE if cut and last else ItemStatus.COMPLETED)
        return self._events.take()

    def output_items(self) -> tuple[Item, ...]:
        """Return the items so far; one that is still open is incomplete."""
        return tuple(item.item() for item in self._items)

    def answer(self) -> Answer:
        """Return how the answer came out, judged by the last finish reason."""
        failed = self.upstream_error is not None
        return Answer(
            output=self.output_items(),
            status=ResponseStatus.FAILED if failed else status_after(self.finish_reason),
            incomplete_reason=INCOMPLETE_REASONS.get(self.finish_reason or ""),
            raw_usage=self.raw_usage,
            upstream_error=self.upstream_error,
            delivered_text_bytes=self.delivered_text_bytes,
        )

    def _take_delta(self, delta: ChatMessage) -> None:
        if delta.thoughts:
            self._add_text(make_reasoning, REASONING, delta.thoughts)
        if delta.content:
            self._add_text(make_message, TEXT, delta.content)
        if delta.refusal:
            self._add_text(make_message, REFUSAL, delta.refusal)
        for call in delta.tool_calls or ():
            self._add_call(call)

    def _add_text(self, make: MakeTextItem, kind: PartKind, text: str) -> None:
        if self._text is None or self._text.make is not make:
            self._close_text()
            self._text = WritingText(self._events, len(self._items), make)
            self._items.append(self._text)
        self._text.add(kind, text)
        self.delivered_text_bytes += utf8_length(text)

    def _close_text(self) -> None:
        if self._text is not None:
            self._text.close(ItemStatus.COMPLETED)
            self._text = None

    def _add_call(self, delta: ChatToolCall) -> None:
        function = delta.function or ChatFunction()
        index = max(self._calls, default=0) if delta.index is None else delta.index
        call = self._calls.get(index)
        if call is None or begins_another(call, delta, function):
            call = self._calls[index] = self._begin_call(delta, function)
        call.name = call.name or function.name or ""
        if function.arguments:
            call.add(function.arguments)
            self.delivered_text_bytes += utf8_length(function.arguments)

    def _begin_call(self, delta: ChatToolCall, function: ChatFunction) -> WritingCall:
        self._close_text()
        call_id = unique_call_id(delta.id, self._call_ids)
        call = WritingCall(self._events, len(self._items), call_id, function.name or "")
        self._items.append(call)
        self.delivered_text_bytes += utf8_length(function.name or "")
        return call


def begins_another(call: WritingCall, delta: ChatToolCall, function: ChatFunction) -> bool:
    """Tell whether a piece is the first of another call than the one at its index.

    Ollama numbered all calls 0, others leave out the index, and vLLM gave each piece an id of its own: a second
    name is the sign, with another id or without any index.
    """
    if not function.name or not call.name:
        return False
    return delta.id != call.call_id if delta.id else delta.index is None
