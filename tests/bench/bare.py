"""The floor under the gateway: its own HTTP server and client with nothing between them.

What this costs is what every gateway on this server and client costs before it has read a key. The benchmark runs it
beside the gateway, so that a figure shows what is ours to make cheaper and what is not.
"""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyreqwest.client import Client, ClientBuilder

from gateway.runtime.serve import serve
from tests.fakes.processes import ChildProcess

REFUSED = (
    b'{"error": {"message": "No.", "type": "authentication_error", "param": null, "code": "invalid_api_key"}}'
)
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
HEADERS = [("content-type", "application/json"), ("accept-encoding", "identity"), ("user-agent", "bare")]
READ_TIMEOUT_S = 60
UPSTREAMS = "NUSAGATE_BENCH_UPSTREAMS"
PORT = "NUSAGATE_BENCH_PORT"


class Bare:
    """Refuses ``/refuse``, and relays everything else to one of two upstreams, byte for byte."""

    def __init__(self, fixed: str, streams: str) -> None:
        self._upstreams = {"/v1/responses": fixed, "/v1/chat/completions": streams}
        self._client: Client | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection event."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/refuse":
            await send({"type": "http.response.start", "status": 401, "headers": JSON})
            await send({"type": "http.response.body", "body": REFUSED})
        elif scope["path"] in self._upstreams:
            await self._relay(scope["path"], (await receive())["body"], send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": JSON})
            await send({"type": "http.response.body", "body": b"{}"})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        builder = ClientBuilder().http1_only().tcp_nodelay(enabled=True).max_connections(None)
        self._client = builder.read_timeout(timedelta(seconds=READ_TIMEOUT_S)).build()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._client.close()
        await asyncio.sleep(0)
        await send({"type": "lifespan.shutdown.complete"})

    async def _relay(self, path: str, body: bytes, send: Any) -> None:
        assert self._client is not None
        builder = self._client.post(self._upstreams[path]).headers(HEADERS).body_bytes(body)
        async with builder.streamed_read_buffer_limit(0).build_streamed() as answer:
            size = answer.get_header("content-length")
            if size is None:
                await send({"type": "http.response.start", "status": answer.status, "headers": EVENTS})
                while (chunk := await answer.body_reader.read_chunk()) is not None:
                    await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            whole = b""
            while len(whole) < int(size) and (chunk := await answer.body_reader.read_chunk()) is not None:
                whole += bytes(chunk)
        await send({"type": "http.response.start", "status": answer.status, "headers": JSON})
        await send({"type": "http.response.body", "body": whole})


def create_app() -> Bare:
    """Make the application from the environment, in the worker that serves it."""
    fixed, streams = os.environ[UPSTREAMS].split(" ")
    return Bare(fixed, streams)


def start(folder: Path, port: int, *, fixed_port: int, streams_port: int, command: list[str]) -> ChildProcess:
    """Start it as the gateway is started: the same server, with the same settings, as one worker."""
    upstreams = (
        f"http://127.0.0.1:{fixed_port}/v1/responses http://127.0.0.1:{streams_port}/v1/chat/completions"
    )
    return ChildProcess(
        [*command, sys.executable, "-m", "tests.bench.bare"],
        output=folder / "bare.log",
        env={UPSTREAMS: upstreams, PORT: str(port)},
    )


if __name__ == "__main__":
    port = int(os.environ[PORT])
    serve("tests.bench.bare:create_app", host="127.0.0.1", port=port, workers=1, shutdown_timeout_s=1)
