"""A model server that says too much: it answers with what a gateway must never pass on, and remembers what it was sent.

The prompt names the manner, ``[[rude NAME]]``; without one it answers politely, but with cookies.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANNER = re.compile(rb"\[\[rude ([a-z_]+)\]\]")
HELD_AT_MOST_S = 60
SECRET_DETAIL = (
    "KeyError at /opt/models/server.py line 12, api_base http://10.1.2.3:9000, token sk-upstream-123"
)
TELLING_HEADERS = {
    "set-cookie": "session=upstream",
    "x-ratelimit-limit-requests": "77",
    "x-ratelimit-remaining-tokens": "78",
    "openai-organization": "org-upstream",
    "openai-processing-ms": "12",
    "x-request-id": "upstream-request",
    "server": "upstream-server",
    "location": "http://127.0.0.1:1/",
    "x-served-by": "rack 7",
}
ANSWER = {
    "id": "chatcmpl-rude",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "rude",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "There."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


class Seen:
    """One request as the upstream got it."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.path, headers, body))
        found = MANNER.search(body)
        getattr(self, found[1].decode() if found else "polite")()

    do_GET = do_POST  # noqa: N815 - a followed redirect would come as a GET and fail the test by its path

    def polite(self) -> None:
        self._reply(200, json.dumps(ANSWER).encode())

    def latin(self) -> None:
        """An answer with a byte that is not UTF-8, in a field that nobody reads."""
        self._reply(
            200, json.dumps(ANSWER | {"system_fingerprint": "cafe"}).encode().replace(b"cafe", b"caf\xe9")
        )

    def failing(self) -> None:
        self._reply(500, json.dumps({"error": {"message": SECRET_DETAIL}}).encode())

    def locked(self) -> None:
        self._reply(401, json.dumps({"error": {"message": SECRET_DETAIL}}).encode())

    def throttling(self) -> None:
        self._reply(429, json.dumps({"error": {"message": SECRET_DETAIL}}).encode())

    def elsewhere(self) -> None:
        self._reply(302, b"")

    def endless(self) -> None:
        """A body without an end, until the gateway has had enough of it."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * 65_536)

    def flood(self) -> None:
        """A stream of large events without an end, until the gateway hangs up."""
        chunk = {"choices": [{"index": 0, "delta": {"content": "x" * 50_000}, "finish_reason": None}]}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self._event(chunk)

    def held(self) -> None:
        """A stream whose end waits until the test lets it go."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event({"choices": [{"index": 0, "delta": {"content": "There."}, "finish_reason": None}]})
        self.server.let_go.acquire(timeout=HELD_AT_MOST_S)
        self._event(
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": ANSWER["usage"]}
        )
        self.wfile.write(b"data: [DONE]\n\n")

    def breaking(self) -> None:
        """A stream that fails in the same piece that carries its first words."""
        pieces = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Over ", "there.")]
        events = [b"data: " + json.dumps(piece).encode() for piece in (*pieces, {"error": {"code": 500}})]
        self._reply(200, b"\n\n".join([*events, b""]), content_type="text/event-stream")

    def mumbling(self) -> None:
        """A refusal with a byte that is not UTF-8."""
        self._reply(400, json.dumps({"error": {"message": "No cafe."}}).encode().replace(b"cafe", b"caf\xe9"))

    def garbled(self) -> None:
        """Not HTTP at all."""
        self.wfile.write(b"\x00\x01 this is not a status line\r\n\r\n")
        self.close_connection = True

    def short(self) -> None:
        """A body that ends before its announced length."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "5000")
        self.end_headers()
        self.wfile.write(b'{"id"')
        self.close_connection = True

    def html(self) -> None:
        """A friendly page where a stream was asked for."""
        self._reply(200, b"<html>Hello</html>", content_type="text/html")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def _event(self, chunk: dict[str, object]) -> None:
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _reply(self, status: int, body: bytes, *, content_type: str = "application/json") -> None:
        self.send_response_only(status)
        for name, value in TELLING_HEADERS.items():
            self.send_header(name, value)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[Seen] = []
        self.let_go = threading.Semaphore(0)

    def handle_error(self, *_arguments: object) -> None:
        """A gateway that hangs up on us is no news."""


class RudeUpstream:
    """The running server."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"

    def asked_by(self, request_id: str) -> list[Seen]:
        """What one request of the gateway looked like, as often as it came."""
        digits = request_id.removeprefix("req_")
        return [seen for seen in self._server.seen if seen.headers.get("x-request-id") == digits]

    def let_one_go(self) -> None:
        """Let one stream that is held come to its end."""
        self._server.let_go.release()

    @property
    def paths(self) -> set[str]:
        return {seen.path for seen in self._server.seen}


@contextlib.contextmanager
def running_rude_upstream() -> Iterator[RudeUpstream]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield RudeUpstream(server)
        finally:
            server.shutdown()
            thread.join(10)
