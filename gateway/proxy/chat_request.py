"""A Chat Completions request: what the gateway must know of it, and nothing changed that it need not change.

Parameters are an allow-list, because an unknown one may be a way to name a host, to multiply the output past its
reservation, or to make the upstream keep what it is told.
"""

from typing import Any

import msgspec

from gateway.errors import InvalidValue, MissingParameter, UnknownParameter
from gateway.metering.bounds import text_bytes
from gateway.quota.model import output_least, output_wanted
from gateway.runtime.documents import decode_document
from gateway.upstream.catalogue import Model, Upstream

PASSED_ON = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n",
        "temperature", "top_p", "top_k", "min_p", "typical_p", "stop", "seed", "logit_bias", "logprobs", "top_logprobs",
        "presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "min_tokens",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
        "reasoning_effort", "verbosity", "chat_template_kwargs", "grammar", "mirostat_mode", "mirostat_tau", "mirostat_eta",
    }
)  # fmt: skip
KEPT_HERE = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Accepted and not sent on: an upstream learns nothing of end users and is never asked to keep anything."""

MODALITIES = ("audio", "modalities", "web_search_options", "prediction")
"""What a text gateway cannot bound in tokens, and so does not take."""

SHAPED = ("tools", "functions", "response_format", "chat_template_kwargs")
"""Parameters that become part of the prompt."""

LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
USER_MAX_CHARACTERS = 512
MESSAGES_MAX = 10_000


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request; ``asked_tokens`` is the client's own output limit for each of ``choices`` answers."""

    model: str
    stream: bool
    wants_usage: bool
    choices: int
    asked_tokens: int | None
    user: str | None
    body: dict[str, Any]

    @property
    def prompt_bytes(self) -> int:
        """Bytes of everything that becomes part of the prompt; structures count as they are written."""
        return text_bytes(self.body["messages"]) + sum(map(len, self._structures))

    @property
    def prompt_text(self) -> str:
        """The text of the prompt, for an upstream that counts tokens."""
        texts = [structure.decode() for structure in self._structures]
        texts += [text for message in self.body["messages"] for text in _texts(message)]
        return "\n".join(texts)

    @property
    def _structures(self) -> list[bytes]:
        """What the model reads beside the messages, as it is written."""
        shaped = [self.body.get(name) for name in SHAPED]
        return [msgspec.json.encode(value) for value in shaped if value is not None]

    def output_bounds(self, model: Model) -> tuple[int, int]:
        """Return the most and the least output of one answer, in tokens."""
        return output_wanted(self.asked_tokens, model.max_output_tokens), output_least(self.asked_tokens)

    def encode_for(self, upstream: Upstream, model: Model, granted_tokens: int) -> bytes:
        """Write the request for an upstream, its output limit clamped to what was reserved."""
        body = {name: value for name, value in self.body.items() if name in PASSED_ON}
        body["model"] = model.upstream_model
        limit_names = [name for name in LIMIT_NAMES if body.get(name) is not None] or ["max_tokens"]
        body.update(dict.fromkeys(limit_names, granted_tokens))
        if self.stream:
            options: dict[str, Any] = {"include_usage": True}
            if upstream.continuous_usage:
                options["continuous_usage_stats"] = True
            body["stream_options"] = options
        return msgspec.json.encode(body)


def parse_chat_request(content: bytes, *, max_depth: int, max_choices: int) -> ChatRequest:
    """Read and check a request body; raises the error that names the field by its path."""
    body = decode_document(content, max_depth=max_depth)
    for name in body:
        if name in MODALITIES:
            raise InvalidValue(f"{name!r} is not supported: this gateway takes and gives text.", param=name)
        if name not in PASSED_ON and name not in KEPT_HERE:
            raise UnknownParameter(f"Unknown parameter: {name!r}.", param=name)
    _check_messages(body)
    limits = [_whole(body, name, minimum=1) for name in LIMIT_NAMES]
    given = [limit for limit in limits if limit is not None]
    stream = _boolean(body, "stream")
    return ChatRequest(
        model=_text(body, "model", required=True) or "",
        stream=stream,
        wants_usage=_wants_usage(body, stream=stream),
        choices=_whole(body, "n", minimum=1, maximum=max_choices) or 1,
        asked_tokens=min(given) if given else None,
        user=_text(body, "user", required=False),
        body=body,
    )


def _check_messages(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if messages is None:
        raise MissingParameter("Missing required parameter: 'messages'.", param="messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
        raise InvalidValue(
            f"'messages' must be an array of 1 to {MESSAGES_MAX:,} messages.", param="messages"
        )
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidValue(f"{path!r} must be an object.", param=path)
        if not isinstance(message.get("role"), str):
            raise MissingParameter(f"Missing required parameter: '{path}.role'.", param=f"{path}.role")
        _check_content(message.get("content"), f"{path}.content")


def _check_content(content: object, path: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidValue(f"{path!r} must be a string or an array of parts.", param=path)
    for index, part in enumerate(content):
        part_path = f"{path}[{index}]"
        if not isinstance(part, dict) or part.get("type") not in {"text", "refusal"}:
            raise InvalidValue(
                f"{part_path!r} must be an object of type 'text' or 'refusal'; this model takes text only.",
                param=part_path,
            )


def _wants_usage(body: dict[str, Any], *, stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidValue("'stream_options' must be an object.", param="stream_options")
    if not stream:
        raise InvalidValue("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    unknown = [name for name in options if name not in {"include_usage", "include_obfuscation"}]
    if unknown:
        path = f"stream_options.{unknown[0]}"
        raise UnknownParameter(f"Unknown parameter: {path!r}.", param=path)
    wanted = options.get("include_usage")
    if not isinstance(wanted, bool | None):
        raise InvalidValue(
            "'stream_options.include_usage' must be a boolean.", param="stream_options.include_usage"
        )
    return bool(wanted)


def _whole(body: dict[str, Any], name: str, *, minimum: int, maximum: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    bounds = (
        f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    )
    if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
        raise InvalidValue(f"{name!r} must be {bounds}.", param=name)
    return value


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidValue(f"{name!r} must be a boolean.", param=name)
    return value


def _text(body: dict[str, Any], name: str, *, required: bool) -> str | None:
    value = body.get(name)
    if value is None:
        if required:
            raise MissingParameter(f"Missing required parameter: {name!r}.", param=name)
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= USER_MAX_CHARACTERS:
        raise InvalidValue(f"{name!r} must be a string of 1 to {USER_MAX_CHARACTERS} characters.", param=name)
    return value


def _texts(message: dict[str, Any]) -> list[str]:
    """Return what a model reads of a message; what has another shape than expected is passed over."""
    content = message.get("content")
    texts = (
        [part.get("text") or part.get("refusal") for part in content]
        if isinstance(content, list)
        else [content]
    )
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return [text for text in texts if isinstance(text, str) and text]
