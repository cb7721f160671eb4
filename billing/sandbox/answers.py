"""One answer on its way out, and how it is put on the wire, whole, slowly or cut in two."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from billing.sandbox.refusals import RateLimited, Refusal

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = "application/json"
HTML = "text/html; charset=utf-8"
ENCODER = msgspec.json.Encoder(decimal_format="number")
"""Sums of usage are JSON numbers at Stripe; written from decimals they keep every digit."""
CUT_PROMISES = 64
"""Bytes that a cut answer promises and never sends."""


class Answer(msgspec.Struct, frozen=True):
    """Status, body and headers; ``cut`` breaks the connection, ``pause_s`` waits in the middle of the body."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    pause_s: float = 0.0


def of_json(value: Any, status: int = 200) -> Answer:
    """Answer with a JSON document."""
    return Answer(status, ENCODER.encode(value))


def of_refusal(refusal: Refusal, *, is_v2: bool = False) -> Answer:
    """Answer with Stripe's error object and the header that tells its SDKs whether to try again."""
    headers: list[tuple[str, str]] = []
    if refusal.should_retry is not None:
        headers.append(("stripe-should-retry", "true" if refusal.should_retry else "false"))
    if isinstance(refusal, RateLimited):
        headers.append(("stripe-rate-limited-reason", refusal.reason))
    body = refusal.body_v2() if is_v2 else refusal.body()
    return Answer(refusal.http_status, msgspec.json.encode(body), headers=tuple(headers))


def redirect(url: str) -> Answer:
    """Send a browser on with 303, so that it does not repeat the form."""
    return Answer(303, b"", HTML, (("location", url),))


async def put_on_wire(answer: Answer, send: Send) -> None:
    """Send an answer. A cut one promises more bytes than it sends, and the server then breaks the connection."""
    body = answer.body[: len(answer.body) // 2] if answer.cut else answer.body
    promised = len(body) + CUT_PROMISES if answer.cut else len(body)
    headers = [("content-type", answer.content_type), ("content-length", str(promised)), *answer.headers]
    wire_headers = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": wire_headers})
    if answer.pause_s:
        half = len(body) // 2
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        await asyncio.sleep(answer.pause_s)
        body = body[half:]
    await send({"type": "http.response.body", "body": body, "more_body": answer.cut})
