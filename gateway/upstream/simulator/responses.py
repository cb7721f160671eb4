"""The Responses dialect of the simulator: OpenAI's objects, event names and order."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from gateway.errors import MissingParameter
from gateway.upstream.catalogue import Dialect
from gateway.upstream.simulator.answer import (
    Answer,
    Prompt,
    compose_answer,
    content_text,
    deltas,
    positive_limit,
)
from gateway.upstream.simulator.frames import Frame
from gateway.upstream.simulator.script import parse_script
from gateway.upstream.simulator.tokens import count_input
from gateway.upstream.simulator.usage import RESPONSES_USAGE, usage_member


def read_responses(body: dict[str, Any]) -> Prompt:
    """Read a request; ``RequestError`` naming the parameter that is missing or wrong."""
    items = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise MissingParameter("input must be a string or a list of at least one item", param="input")
    texts = [_item_text(item) for item in items]
    if isinstance(body.get("instructions"), str):
        texts.append(body["instructions"])
    user_text = next(
        (content_text(item.get("content")) for item in reversed(items) if item.get("role") == "user"), ""
    )
    return Prompt(
        dialect=Dialect.RESPONSES,
        model=body["model"],
        is_stream=body.get("stream") is True,
        user_text=user_text,
        input_tokens=count_input(texts),
        max_tokens=positive_limit(body.get("max_output_tokens"), "max_output_tokens"),
        script=parse_script(user_text),
        tools=_tools(body.get("tools")),
    )


def answer_responses(prompt: Prompt) -> Answer:
    """Decide the answer."""
    return compose_answer(prompt, id_prefix="resp_")


def responses_json(answer: Answer) -> dict[str, Any]:
    """Build the whole object, as a request without ``stream`` gets it."""
    return _response(answer, _final_status(answer), [_item(answer, _final_status(answer))])


class ResponsesStream:
    """The same answer as events with rising sequence numbers."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._numbers = count()
        self._place = {"item_id": _item_id(answer), "output_index": 0}
        if answer.tool_name is None:
            self._place["content_index"] = 0

    def opening(self) -> list[Frame]:
        """The events before any token."""
        started = {"response": _response(self._answer, "in_progress", [])}
        frames = [
            self._event("response.created", started),
            self._event("response.in_progress", started),
            self._event("response.output_item.added", {"output_index": 0, "item": self._empty_item()}),
        ]
        if self._answer.tool_name is None:
            part = {**self._place, "part": _part("")}
            frames.append(self._event("response.content_part.added", part))
        return frames

    def pieces(self) -> Iterator[Frame]:
        """The events that carry tokens."""
        name = f"{self._kind()}.delta"
        fault = self._answer.prompt.script.fault
        extra: dict[str, Any] = {} if self._answer.tool_name else {"logprobs": []}
        for text, tokens in deltas(self._answer, fault=fault, sent=0):
            yield self._event(name, {**self._place, "delta": text, **extra}, tokens=tokens)

    def closing(self) -> list[Frame]:
        """The events after the last token, down to the one that carries the usage."""
        answer = self._answer
        status = _final_status(answer)
        item = _item(answer, status)
        if answer.tool_name is None:
            frames = [
                self._event(f"{self._kind()}.done", {**self._place, "text": answer.text, "logprobs": []}),
                self._event("response.content_part.done", {**self._place, "part": _part(answer.text)}),
            ]
        else:
            arguments = {**self._place, "name": answer.tool_name, "arguments": answer.text}
            frames = [self._event(f"{self._kind()}.done", arguments)]
        frames.append(self._event("response.output_item.done", {"output_index": 0, "item": item}))
        frames.append(self._event(f"response.{status}", {"response": _response(answer, status, [item])}))
        return frames

    def failure(self) -> list[Frame]:
        """An error in the middle of the stream."""
        fault = {"code": "server_error", "message": "The simulated model failed.", "param": None}
        return [self._event("error", fault)]

    def _kind(self) -> str:
        return "response.function_call_arguments" if self._answer.tool_name else "response.output_text"

    def _empty_item(self) -> dict[str, Any]:
        """The item as it is announced, before it has content."""
        item = _item(self._answer, "in_progress")
        return {**item, "content": []} if self._answer.tool_name is None else {**item, "arguments": ""}

    def _event(self, name: str, members: dict[str, Any], *, tokens: int = 0) -> Frame:
        value = {"type": name, "sequence_number": next(self._numbers), **members}
        return Frame(data=msgspec.json.encode(value), event=name, tokens=tokens)


def _item_text(item: dict[str, Any]) -> str:
    """Join everything in an item that the model reads."""
    members = (item.get("arguments"), item.get("output"))
    return content_text(item.get("content")) + "".join(content_text(member) for member in members)


def _tools(tools: object) -> dict[str, dict[str, Any]]:
    """Index the parameters of the request's function tools by name."""
    functions = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return {
        str(function.get("name")): function.get("parameters") or {}
        for function in functions
        if function.get("type") == "function"
    }


def _final_status(answer: Answer) -> str:
    return "incomplete" if answer.is_cut else "completed"


def _item_id(answer: Answer) -> str:
    prefix = "msg" if answer.tool_name is None else "fc"
    return f"{prefix}_{answer.id.removeprefix('resp_')}"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(answer: Answer, status: str) -> dict[str, Any]:
    """Build the one output item: a message, or a function call."""
    head = {"id": _item_id(answer), "status": status}
    if answer.tool_name is None:
        return {**head, "type": "message", "role": "assistant", "content": [_part(answer.text)]}
    call_id = f"call_{answer.id.removeprefix('resp_')[:24]}"
    return {
        **head,
        "type": "function_call",
        "call_id": call_id,
        "name": answer.tool_name,
        "arguments": answer.text,
    }


def _response(answer: Answer, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the response object; only a finished one has usage."""
    is_final = status != "in_progress"
    usage: dict[str, Any] = {"usage": None}
    if is_final:
        usage = usage_member(
            RESPONSES_USAGE,
            answer.prompt.script,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )
    return {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created,
        "completed_at": answer.created if status == "completed" else None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": answer.prompt.max_tokens,
        "model": answer.prompt.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 0.7,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "metadata": {},
        **usage,
    }
