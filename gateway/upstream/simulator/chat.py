"""The Chat Completions dialect of the simulator."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.errors import InvalidValue, MissingParameter
from gateway.upstream.catalogue import Dialect
from gateway.upstream.simulator.answer import (
    COPIES_MAX,
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
from gateway.upstream.simulator.usage import CHAT_USAGE, exact_usage, usage_member

DONE = Frame(data=b"[DONE]")


def read_chat(body: dict[str, Any]) -> Prompt:
    """Read a request; ``RequestError`` naming the parameter that is missing or wrong."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise MissingParameter("messages must be a list of at least one message", param="messages")
    texts = [_message_text(message) for message in messages]
    user_text = next(
        (content_text(item.get("content")) for item in reversed(messages) if item.get("role") == "user"), ""
    )
    copies = positive_limit(body.get("n"), "n") or 1
    if copies > COPIES_MAX:
        raise InvalidValue(f"n must be at most {COPIES_MAX}", param="n")
    is_stream = body.get("stream") is True
    options = body.get("stream_options") or {}
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    return Prompt(
        dialect=Dialect.CHAT,
        model=body["model"],
        is_stream=is_stream,
        user_text=user_text,
        input_tokens=count_input(texts),
        max_tokens=positive_limit(body.get(limit), limit),
        script=parse_script(user_text),
        tools=_tools(body.get("tools")),
        copies=copies,
        sends_usage=not is_stream or options.get("include_usage") is True,
        sends_running_usage=options.get("continuous_usage_stats") is True,
    )


def answer_chat(prompt: Prompt) -> Answer:
    """Decide the answer."""
    return compose_answer(prompt, id_prefix="chatcmpl-")


def chat_json(answer: Answer) -> dict[str, Any]:
    """Build the whole object, as a request without ``stream`` gets it."""
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.prompt.model,
        "choices": [
            {"index": index, "message": _message(answer), "logprobs": None, "finish_reason": _finish(answer)}
            for index in range(answer.prompt.copies)
        ],
        **_usage(answer),
    }


class ChatStream:
    """The same answer as chunks."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._is_running_usage = answer.prompt.sends_running_usage and answer.prompt.sends_usage

    def opening(self) -> list[Frame]:
        """The chunks that name the role, before any token."""
        delta: dict[str, Any] = {"role": "assistant", "content": None if self._answer.tool_name else ""}
        if self._answer.tool_name:
            function = {"name": self._answer.tool_name, "arguments": ""}
            call = {"index": 0, "id": _call_id(self._answer), "type": "function", "function": function}
            delta["tool_calls"] = [call]
        return [self._chunk(index, delta, sent=0) for index in range(self._answer.prompt.copies)]

    def pieces(self) -> Iterator[Frame]:
        """The chunks that carry tokens."""
        fault = self._answer.prompt.script.fault
        sent = 0
        for index in range(self._answer.prompt.copies):
            for text, tokens in deltas(self._answer, fault=fault, sent=index * len(self._answer.words)):
                sent += tokens
                yield self._chunk(index, self._delta(text), sent=sent, tokens=tokens)

    def closing(self) -> list[Frame]:
        """The chunks after the last token: why it ended, the usage if it was asked for, and the end mark."""
        answer = self._answer
        sent = answer.output_tokens
        frames = [
            self._chunk(index, {}, sent=sent, finish=_finish(answer)) for index in range(answer.prompt.copies)
        ]
        usage = _usage(answer)
        if answer.prompt.sends_usage and usage:
            frames.append(_frame({**self._head(), "choices": [], **usage}))
        return [*frames, *self._end()]

    def failure(self) -> list[Frame]:
        """An error in the middle of the stream, in the way of vLLM."""
        error = {"message": "The simulated model failed.", "type": "server_error", "param": None, "code": 500}
        return [_frame({"error": error}), *self._end()]

    def _end(self) -> list[Frame]:
        return [] if self._answer.prompt.script.done == "missing" else [DONE]

    def _delta(self, text: str) -> dict[str, Any]:
        if self._answer.tool_name is None:
            return {"content": text}
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._answer.id,
            "object": "chat.completion.chunk",
            "created": self._answer.created,
            "model": self._answer.prompt.model,
        }

    def _chunk(
        self, index: int, delta: dict[str, Any], *, sent: int, tokens: int = 0, finish: str | None = None
    ) -> Frame:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._head(), "choices": [choice]}
        if self._is_running_usage:
            script = self._answer.prompt.script
            chunk["usage"] = exact_usage(
                CHAT_USAGE, script, input_tokens=self._answer.input_tokens, output_tokens=sent
            )
        elif self._answer.prompt.sends_usage:
            chunk["usage"] = None
        return _frame(chunk, tokens=tokens)


def _frame(value: dict[str, Any], *, tokens: int = 0) -> Frame:
    return Frame(data=msgspec.json.encode(value), tokens=tokens)


def _message_text(message: dict[str, Any]) -> str:
    """Join everything in a message that the model reads: its content and the calls it made."""
    calls = message.get("tool_calls")
    functions = (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    )
    arguments = (function.get("arguments") for function in functions if isinstance(function, dict))
    return content_text(message.get("content")) + "".join(text for text in arguments if isinstance(text, str))


def _tools(tools: object) -> dict[str, dict[str, Any]]:
    """Index the parameters of the request's function tools by name."""
    functions = (
        [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    )
    return {
        str(function.get("name")): function.get("parameters") or {}
        for function in functions
        if isinstance(function, dict)
    }


def _message(answer: Answer) -> dict[str, Any]:
    if answer.tool_name is None:
        return {"role": "assistant", "content": answer.text, "refusal": None}
    function = {"name": answer.tool_name, "arguments": answer.text}
    call = {"id": _call_id(answer), "type": "function", "function": function}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}


def _call_id(answer: Answer) -> str:
    return f"call_{answer.id.removeprefix('chatcmpl-')[:24]}"


def _finish(answer: Answer) -> str:
    if answer.is_cut:
        return "length"
    return "tool_calls" if answer.tool_name else "stop"


def _usage(answer: Answer) -> dict[str, Any]:
    return usage_member(
        CHAT_USAGE,
        answer.prompt.script,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
    )
