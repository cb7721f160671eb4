"""How tests of the outside ask: one call for both endpoints, JSON or streamed, and the answer taken apart."""

import json
import socket
from typing import Any

import httpx2
import msgspec

from tests.plugins.cast import Person

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


class Answer(msgspec.Struct, frozen=True):
    """What a client got: status, headers, bytes."""

    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def label(self) -> str:
        """The request's id."""
        return self.headers["x-request-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of an error, wherever in the answer it is."""
        if self.status >= 400:
            return self.json["error"]["code"]
        for event in self.events:
            if event.get("error"):
                return event["error"]["code"]
            if event.get("type") == "response.failed":
                return event["response"]["error"]["code"]
        return None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a stream without its end mark."""
        data = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in data if line != "[DONE]"]

    @property
    def text(self) -> str:
        """What the model wrote, whichever way it came."""
        if self.headers["content-type"].startswith("text/event-stream"):
            return "".join(map(_delta, self.events))
        if "choices" in self.json:
            return self.json["choices"][0]["message"]["content"]
        return "".join(part["text"] for item in self.json["output"] for part in item.get("content", ()))

    @property
    def is_ended(self) -> bool:
        """Whether a stream said that it was over."""
        return self.body.rstrip().endswith(b"data: [DONE]")


def _delta(event: dict[str, Any]) -> str:
    if event.get("type") == "response.output_text.delta":
        return event["delta"]
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


def bearer(person: Person) -> dict[str, str]:
    return {"authorization": f"Bearer {person.api_key}"}


def body_of(path: str, prompt: str, *, model: str = "nusantara-base", **more: Any) -> dict[str, Any]:
    """A request's body for either endpoint that writes, or for embeddings."""
    if path == CHAT:
        return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
    return {"model": model, "input": prompt, **more}


def ask(
    http: httpx2.Client,
    person: Person,
    path: str,
    prompt: str,
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Answer:
    """Ask and take everything that comes, even where it ends too soon."""
    body = body_of(path, prompt, **more)
    return send(http, person, path, json.dumps(body).encode(), headers=headers)


def send(
    http: httpx2.Client, person: Person, path: str, content: bytes, *, headers: dict[str, str] | None = None
) -> Answer:
    """POST bytes as they are."""
    sent = {"content-type": "application/json", **bearer(person), **(headers or {})}
    with http.stream("POST", path, content=content, headers=sent) as answer:
        return Answer(answer.status_code, answer.headers, answer.read())


def wire_bytes(person: Person, path: str, body: bytes, *, extra: str = "") -> bytes:
    """A whole request as it goes over the wire, for tests that cut it short or leave before the answer."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {person.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def connect(port: int) -> socket.socket:
    """A connection to a gateway of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=20)
