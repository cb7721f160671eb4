"""The prompt of a request as the model will read it: how long it is, and how it is made to fit."""

from collections.abc import Sequence

from gateway.metering.bounds import InputBound
from gateway.quota.model import OUTPUT_TOKENS_MIN
from gateway.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    ReasoningItem,
    text_of,
    utf8_length,
)
from gateway.responses.model import ENCODER
from gateway.responses.request import ResponseRequest
from gateway.responses.tools import TextConfig

FRAME_BYTES = 16
"""What a chat template puts around one item: its role and the marks of its beginning and end."""


def texts_of(item: Item) -> list[str]:
    """Return everything in an item that a model reads or wrote."""
    match item:
        case Message():
            return [text_of(part) for part in item.content]
        case FunctionCall():
            return [item.name, item.arguments]
        case FunctionCallOutput():
            output = item.output
            return [output] if isinstance(output, str) else [text_of(part) for part in output]
        case ReasoningItem():
            return [part.text for part in item.summary] + [part.text for part in item.content]


def prompt_bytes(request: ResponseRequest, conversation: Sequence[Item]) -> int:
    """Count the UTF-8 bytes that the prompt can have; structures count as they are written."""
    size = utf8_length(request.instructions or "") + sum(map(len, _structures(request)))
    return size + sum(_item_bytes(item) for item in conversation)


def prompt_text(request: ResponseRequest, conversation: Sequence[Item]) -> str:
    """Return the text of the prompt, for an upstream that counts tokens; no line of it is of our making."""
    texts = [request.instructions or "", *(structure.decode() for structure in _structures(request))]
    texts += [text for item in conversation for text in texts_of(item)]
    return "\n".join(text for text in texts if text)


def fit_window(
    request: ResponseRequest, conversation: tuple[Item, ...], bound: InputBound, *, context_window: int
) -> tuple[Item, ...]:
    """Drop the oldest items of a request with ``truncation: auto`` until the rest fits the model's window.

    The last item always stays; whether it fits is for the model to say.
    """
    if request.truncation != "auto":
        return conversation
    room = context_window - OUTPUT_TOKENS_MIN
    size = prompt_bytes(request, conversation)
    first = 0
    while bound.tokens(size) > room and first < len(conversation) - 1:
        size -= _item_bytes(conversation[first])
        first += 1
    return _without_orphans(conversation[first:]) if first else conversation


def _without_orphans(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Leave out what functions returned to calls that were dropped, because models refuse it; the last item stays."""
    *earlier, last = items
    called: set[str] = set()
    kept = []
    for item in earlier:
        if isinstance(item, FunctionCall):
            called.add(item.call_id)
        if not isinstance(item, FunctionCallOutput) or item.call_id in called:
            kept.append(item)
    return (*kept, last)


def _item_bytes(item: Item) -> int:
    return FRAME_BYTES + sum(utf8_length(text) for text in (*texts_of(item), *_marks_of(item)))


def _marks_of(item: Item) -> list[str]:
    """Return what of an item is sent on and is no text: a template may show an id, and encrypted thoughts are read."""
    match item:
        case FunctionCall() | FunctionCallOutput():
            return [item.call_id]
        case ReasoningItem(encrypted_content=str(encrypted)):
            return [encrypted]
        case _:
            return []


def _structures(request: ResponseRequest) -> list[bytes]:
    """What a model reads of a request beside its texts, as it is written: tools, and the shape that was asked for."""
    shaped: list[object] = [request.tools] if request.tools else []
    if request.text != TextConfig():
        shaped.append(request.text)
    return [ENCODER.encode(value) for value in shaped]
