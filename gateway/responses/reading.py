"""Reading the ``input`` of a request: a string, or the items of a conversation as clients write them.

Clients send back what they were given, so unknown members of an item are passed over here, unlike at the
top of a request. Items come out with an empty ``id`` where the client gave none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import UNSET

from gateway.errors import InvalidValue
from gateway.responses.fields import (
    one_of,
    read_array,
    read_choice,
    read_label,
    read_member,
    read_name,
    read_object,
    read_optional,
    read_string,
    wrong_type,
)
from gateway.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    ItemStatus,
    Message,
    MessagePart,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
    Role,
    SummaryText,
)

MAX_ID_CHARS: Final = 256
"""Ids of items and calls; upstreams make longer ones than the 64 characters that OpenAI promises."""

MAX_ITEMS: Final = 10_000
"""As many items as chat has messages: while they are read, nobody else is served."""

OTHER_MEDIA: Final = frozenset({"input_image", "input_file", "input_audio", "input_video"})

read_role = partial(read_choice, allowed=tuple(Role))
read_status = partial(read_choice, allowed=tuple(ItemStatus))
read_spoken_type = partial(read_choice, allowed=("output_text", "refusal"))
read_item_id = partial(read_label, max_chars=MAX_ID_CHARS)
read_call_id = partial(read_label, min_chars=1, max_chars=MAX_ID_CHARS)


def read_input(value: object, path: str) -> tuple[Item, ...]:
    """Read the whole input; it must hold something for the model to read."""
    if isinstance(value, str):
        return (Message("", ItemStatus.COMPLETED, Role.USER, (InputText(value),)),)
    if not isinstance(value, list):
        raise wrong_type(value, path, "a string or an array of items")
    if len(value) > MAX_ITEMS:
        raise InvalidValue(f"'{path}' must have at most {MAX_ITEMS:,} items.", param=path)
    items = tuple(read_item(item, f"{path}[{index}]") for index, item in enumerate(value))
    if all(isinstance(item, ReasoningItem) for item in items):
        raise InvalidValue(f"'{path}' must have at least one message.", param=path)
    return items


def read_item(value: object, path: str) -> Item:
    """Read one item; a message may leave out its type."""
    item = read_object(value, path)
    kind = item.get("type")
    if kind is None and "role" in item:
        return read_message(item, path)
    kind = read_member(item, "type", path, read_string)
    if kind == "item_reference":
        raise InvalidValue(
            "Items cannot be referred to: send them, or use 'previous_response_id'.", param=f"{path}.type"
        )
    reader = ITEM_READERS.get(kind)
    if reader is None:
        raise InvalidValue(f"'{path}.type' must be {one_of(ITEM_READERS)}.", param=f"{path}.type")
    return reader(item, path)


def read_message(item: Mapping[str, Any], path: str) -> Message:
    """Read something that one side said."""
    role = Role(read_member(item, "role", path, read_role))
    read_content = read_spoken if role is Role.ASSISTANT else read_given
    return Message(
        id=read_id(item, path),
        status=read_item_status(item, path),
        role=role,
        content=read_member(item, "content", path, read_content),
    )


def read_spoken(value: object, path: str) -> tuple[MessagePart, ...]:
    """Read what the model said: a string, or parts of text and refusals."""
    if isinstance(value, str):
        return (OutputText(value),)
    if not isinstance(value, list):
        raise wrong_type(value, path, "a string or an array")
    return tuple(read_spoken_part(part, f"{path}[{index}]") for index, part in enumerate(value))


def read_spoken_part(value: object, path: str) -> MessagePart:
    """Read one part of what the model said."""
    part = read_object(value, path)
    if read_member(part, "type", path, read_spoken_type) == "refusal":
        return Refusal(read_member(part, "refusal", path, read_string))
    return OutputText(
        text=read_member(part, "text", path, read_string),
        annotations=tuple(read_optional(part, "annotations", path, read_array) or ()),
    )


def read_given(value: object, path: str) -> tuple[InputText, ...]:
    """Read what the model is given: a string, or parts of text."""
    if isinstance(value, str):
        return (InputText(value),)
    if not isinstance(value, list):
        raise wrong_type(value, path, "a string or an array")
    return tuple(read_given_part(part, f"{path}[{index}]") for index, part in enumerate(value))


def read_given_part(value: object, path: str) -> InputText:
    """Read one part of what the model is given."""
    part = read_object(value, path)
    read_member(part, "type", path, read_given_type)
    return InputText(read_member(part, "text", path, read_string))


def read_given_type(value: object, path: str) -> str:
    """Read the type of a part, which can only be text."""
    if read_string(value, path) in OTHER_MEDIA:
        raise InvalidValue("The model takes text only: 'input_text'.", param=path)
    return read_choice(value, path, allowed=("input_text",))


def read_function_call(item: Mapping[str, Any], path: str) -> FunctionCall:
    """Read a call that the model made before."""
    return FunctionCall(
        id=read_id(item, path),
        call_id=read_member(item, "call_id", path, read_call_id),
        name=read_member(item, "name", path, read_name),
        arguments=read_member(item, "arguments", path, read_string),
        status=read_item_status(item, path),
    )


def read_returned(value: object, path: str) -> str | tuple[InputText, ...]:
    """Read what a function returned: a string, or parts of text."""
    return value if isinstance(value, str) else read_given(value, path)


def read_function_call_output(item: Mapping[str, Any], path: str) -> FunctionCallOutput:
    """Read the item that answers a call."""
    return FunctionCallOutput(
        id=read_id(item, path),
        call_id=read_member(item, "call_id", path, read_call_id),
        output=read_member(item, "output", path, read_returned),
        status=read_item_status(item, path),
    )


def read_reasoning(item: Mapping[str, Any], path: str) -> ReasoningItem:
    """Read thoughts that the model had before; models that speak chat never see them again."""
    encrypted = read_optional(item, "encrypted_content", path, read_string)
    return ReasoningItem(
        id=read_id(item, path),
        summary=tuple(SummaryText(text) for text in read_texts(item, "summary", path)),
        content=tuple(ReasoningText(text) for text in read_texts(item, "content", path)),
        encrypted_content=UNSET if encrypted is None else encrypted,
    )


def read_texts(item: Mapping[str, Any], key: str, path: str) -> list[str]:
    """Read the texts of the parts of a reasoning item."""
    parts = read_optional(item, key, path, read_array) or []
    return [
        read_member(
            read_object(part, f"{path}.{key}[{index}]"), "text", f"{path}.{key}[{index}]", read_string
        )
        for index, part in enumerate(parts)
    ]


def read_id(item: Mapping[str, Any], path: str) -> str:
    """Read the id that the client gave an item, or an empty string."""
    return read_optional(item, "id", path, read_item_id) or ""


def read_item_status(item: Mapping[str, Any], path: str) -> ItemStatus:
    """Read how far an item had come; what a client sends is complete unless it says otherwise."""
    return ItemStatus(read_optional(item, "status", path, read_status) or ItemStatus.COMPLETED)


ITEM_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Item]]] = {
    "message": read_message,
    "function_call": read_function_call,
    "function_call_output": read_function_call_output,
    "reasoning": read_reasoning,
}
