"""The simulator as a plain ASGI application: its routes, and what a request goes through."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import InvalidJson, MissingParameter, RequestError
from gateway.upstream.simulator.answer import Answer
from gateway.upstream.simulator.chat import ChatStream, answer_chat, chat_json, read_chat
from gateway.upstream.simulator.delivery import HANG_MAX_S, Served, deliver_json, deliver_stream
from gateway.upstream.simulator.embeddings import embeddings_json, read_embeddings
from gateway.upstream.simulator.frames import Stream
from gateway.upstream.simulator.journal import Journal
from gateway.upstream.simulator.responses import (
    ResponsesStream,
    answer_responses,
    read_responses,
    responses_json,
)
from gateway.upstream.simulator.script import FaultKind, Script
from gateway.upstream.simulator.wire import ClientGone, Exchange, Message, Receive, Send

GATEWAY_ID = re.compile(r"[0-9a-f]{32}")
TOO_MANY_REQUESTS = 429
SERVER_ERRORS_FROM = 500

MODELS = {
    "object": "list",
    "data": [{"id": "nusantara-base", "object": "model", "created": 1_760_000_000, "owned_by": "nusagate"}],
}


class SimulatorApp:
    """The ASGI application; its journal tells afterwards what was served."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._posts = {
            "/v1/chat/completions": self._chat,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
        }
        self._gets = {"/v1/models": MODELS, "/healthz": {"status": "ok"}}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one exchange, or the start and stop of the server."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._route(exchange, scope["method"], scope["path"])
        except RequestError as error:
            await exchange.send_json(400, _error(error.message, error.code, param=error.param))
        except ClientGone:
            pass
        finally:
            exchange.end()

    async def _route(self, exchange: Exchange, method: str, path: str) -> None:
        if method == "GET" and path in self._gets:
            await exchange.send_json(200, self._gets[path])
        elif method == "POST" and path in self._posts:
            body = _read_json(await exchange.read_body())
            await self._posts[path](exchange, body)
        else:
            await exchange.send_json(404, _error(f"There is no {method} {path} here.", "not_found"))

    async def _chat(self, exchange: Exchange, body: dict[str, Any]) -> None:
        answer = answer_chat(read_chat(body))
        await self._answer(exchange, answer, whole=chat_json, stream=ChatStream)

    async def _responses(self, exchange: Exchange, body: dict[str, Any]) -> None:
        answer = answer_responses(read_responses(body))
        await self._answer(exchange, answer, whole=responses_json, stream=ResponsesStream)

    async def _answer(
        self,
        exchange: Exchange,
        answer: Answer,
        *,
        whole: Callable[[Answer], dict[str, Any]],
        stream: Callable[[Answer], Stream],
    ) -> None:
        """Deliver an answer of either dialect."""
        prompt = answer.prompt
        served = Served(
            request_id=_label(exchange.header(b"x-request-id")),
            id=answer.id,
            dialect=prompt.dialect.value,
            is_stream=prompt.is_stream,
            model=prompt.model,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            sends_usage=prompt.sends_usage,
            script=prompt.script,
        )
        if not await _is_answered(exchange, prompt.script, is_stream=prompt.is_stream):
            return
        if prompt.is_stream:
            await deliver_stream(exchange, self._journal, served, stream(answer))
        else:
            await deliver_json(exchange, self._journal, served, msgspec.json.encode(whole(answer)))

    async def _embeddings(self, exchange: Exchange, body: dict[str, Any]) -> None:
        prompt = read_embeddings(body)
        served = Served(
            request_id=_label(exchange.header(b"x-request-id")),
            id=f"embd-{secrets.token_hex(24)}",
            dialect="embeddings",
            is_stream=False,
            model=prompt.model,
            input_tokens=prompt.input_tokens,
            output_tokens=0,
            sends_usage=True,
            script=prompt.script,
        )
        if await _is_answered(exchange, prompt.script, is_stream=False):
            await deliver_json(exchange, self._journal, served, msgspec.json.encode(embeddings_json(prompt)))


def create_app(journal_path: Path | None) -> SimulatorApp:
    """Make the application; without a path it keeps no journal."""
    return SimulatorApp(Journal(journal_path))


async def _is_answered(exchange: Exchange, script: Script, *, is_stream: bool) -> bool:
    """Let happen what the script wants before an answer begins; false if none is to follow."""
    exchange.split_bytes = script.split_bytes
    await exchange.pause(script.delay_ms / 1000)
    if script.status is not None:
        await _refuse(exchange, script.status)
        return False
    fault = script.fault
    if fault is None or fault.after_tokens > 0:
        return True
    if fault.kind is FaultKind.HANG and not is_stream:
        await exchange.pause(HANG_MAX_S)
        return False
    if fault.kind is FaultKind.RESET:
        exchange.reset()
        return False
    return True


async def _refuse(exchange: Exchange, status: int) -> None:
    """Answer with an error of the status that the script names."""
    kind, headers = "invalid_request_error", {}
    if status == TOO_MANY_REQUESTS:
        kind, headers = "rate_limit_exceeded", {"retry-after": "1"}
    elif status >= SERVER_ERRORS_FROM:
        kind = "server_error"
    error = _error(f"The script asked for status {status}.", kind, kind=kind)
    await exchange.send_json(status, error, headers)


def _read_json(body: bytes) -> dict[str, Any]:
    """Decode a request's body; ``RequestError`` unless it is an object that names a model."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidJson from error
    if not isinstance(value, dict):
        raise InvalidJson("The body is not a JSON object.")
    if not isinstance(value.get("model"), str):
        raise MissingParameter("model must be a string", param="model")
    return value


def _error(
    message: str, code: str, *, kind: str = "invalid_request_error", param: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _label(digits: str | None) -> str | None:
    """Write a request's id as the gateway writes it everywhere but to upstreams, who get the digits alone."""
    return f"req_{digits}" if digits and GATEWAY_ID.fullmatch(digits) else digits


async def _lifespan(receive: Receive, send: Send) -> None:
    """Tell the server that starting and stopping is nothing special."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
