"""How the gateway speaks to an upstream: one POST, and an answer that is read piece by piece.

This is the only file that knows the HTTP client underneath (pyreqwest over reqwest and hyper). What it hides:

* With a read buffer of more than zero bytes the client holds back headers and events until the buffer is full.
* Its ``ConnectError`` also covers a connection that broke after the request was sent, and its
  ``ConnectTimeoutError`` a wait for headers. Only what hyper itself calls a connect error is certainly unsent.
* A request that is cancelled before its headers goes on in the client's own thread, until the client's read
  timeout ends it; therefore that timeout is set, a little longer than the deadlines kept here.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError, PyreqwestError, RequestTimeoutError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from gateway.errors import NusagateError
from gateway.runtime.watchdog import Watchdog
from gateway.units import TOKENS_MAX
from gateway.upstream.catalogue import Upstream
from gateway.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)

__all__ = [
    "UpstreamAnswer",
    "UpstreamAnswerTooLarge",
    "UpstreamClient",
    "UpstreamReset",
    "UpstreamTimeout",
    "UpstreamUnreachable",
]

HEADERS_KEPT = ("content-type", "retry-after")
"""What of an upstream's headers the gateway looks at; everything else is dropped here."""

IDLE_CONNECTIONS_PER_HOST = 4096
IDLE_CONNECTION_S = 4
"""Less than the 5 s after which uvicorn, under most model servers, closes an idle connection: whoever closes
first cannot lose the race in which a request is written to a connection that is just being closed."""

READ_TIMEOUT_MARGIN_S = 1
COUNT_TIMEOUT_S = 5
COUNTED = 200
COUNT_ANSWER_BYTES = 4_096
READ_BUFFER_BYTES = 0
SETTLE_S = 0.05
CONNECT_PHASE = "client error (Connect)"
"""What hyper calls a failure before there was a connection."""


class _TokenCount(msgspec.Struct):
    count: Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


_COUNT_DECODER = msgspec.json.Decoder(_TokenCount)


class UpstreamAnswer:
    """One answer of an upstream; whoever opened it must close it."""

    __slots__ = (
        "_announced_bytes",
        "_closed",
        "_ended",
        "_idle_timeout_s",
        "_read",
        "_request",
        "_watchdog",
        "headers",
        "status",
    )

    def __init__(
        self, request: StreamRequest, response: Response, watchdog: Watchdog, *, idle_timeout_s: float
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = _kept_headers(response)
        self._announced_bytes = int(response.get_header("content-length") or -1)
        self._request = request
        self._read = response.body_reader.read_chunk
        self._watchdog = watchdog
        self._idle_timeout_s = idle_timeout_s
        self._ended = False
        self._closed = False

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if the upstream sent none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read_chunk(self) -> bytes | None:
        """Return the next bytes as they came, ``None`` at the end.

        Errors: ``UpstreamTimeout`` after ``idle_timeout_s`` without a byte or past the total limit;
        ``UpstreamReset`` if the body breaks off or is malformed. After an error only ``close`` is of use.
        """
        if self._ended:
            return None
        cancellations = self._watchdog.begin(self._idle_timeout_s)
        try:
            chunk = await self._read()
        except PyreqwestError as error:
            raise _failure(error) from error
        finally:
            self._watchdog.end(cancellations)
        if chunk is None:
            self._ended = True
            return None
        return bytes(chunk)

    async def read_all(self, max_bytes: int) -> bytes:
        """Return the rest of the body; ``UpstreamAnswerTooLarge`` as soon as it exceeds ``max_bytes``."""
        chunks: list[bytes] = []
        size = 0
        # Where the upstream said how much is coming, there is no need to be told that nothing more comes.
        while (not chunks or size != self._announced_bytes) and (
            chunk := await self.read_chunk()
        ) is not None:
            size += len(chunk)
            if size > max_bytes:
                raise UpstreamAnswerTooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    async def close(self) -> None:
        """Give the connection back, or cut it if the upstream has not finished; more than once is fine."""
        if self._closed:
            return
        self._closed = self._ended = True
        self._watchdog.stop()
        await _abandon(self._request)


class UpstreamClient:
    """The connections of one process to all upstreams; make it in the process that uses it, never before a fork."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: dict[tuple[float, float], Client] = {}

    @classmethod
    def create(cls) -> "UpstreamClient":
        """Make the client; connections are opened when they are needed."""
        return cls()

    async def open(
        self,
        upstream: Upstream,
        path: str,
        body: bytes,
        *,
        request_id: str,
        accept: str,
        total_timeout_s: float,
    ) -> UpstreamAnswer:
        """POST ``body`` to ``path`` below the upstream's address and return when its headers are there.

        ``first_byte_timeout_s`` covers everything up to the headers, connecting included; ``total_timeout_s``
        bounds the whole answer. Errors: ``UpstreamUnreachable`` (nothing was sent), ``UpstreamTimeout``,
        ``UpstreamReset``. Redirects are answers like any other: they are not followed.
        """
        watchdog = Watchdog(total_timeout_s, UpstreamTimeout)
        request = self._request(upstream, path, body, request_id=request_id, accept=accept)
        try:
            response = await watchdog.wait(request.__aenter__, upstream.first_byte_timeout_s)
            _refuse_compressed(response)
        except BaseException as error:
            watchdog.stop()
            await _abandon(request)
            if isinstance(error, PyreqwestError):
                raise _failure(error) from error
            raise
        return UpstreamAnswer(request, response, watchdog, idle_timeout_s=upstream.idle_timeout_s)

    async def count_tokens(self, upstream: Upstream, text: str, *, request_id: str) -> int | None:
        """Ask an upstream how many tokens a text is; ``None`` if it cannot say.

        The endpoint is that of llama.cpp's Python server: ``{"input": text}`` is answered ``{"count": n}``.
        """
        if upstream.token_count_path is None:
            return None
        root = upstream.base_url.removesuffix("/v1")
        body = msgspec.json.encode({"input": text})
        target = msgspec.structs.replace(upstream, base_url=root)
        try:
            answer = await self.open(
                target,
                upstream.token_count_path,
                body,
                request_id=request_id,
                accept="application/json",
                total_timeout_s=COUNT_TIMEOUT_S,
            )
            try:
                if answer.status != COUNTED:
                    return None
                return _COUNT_DECODER.decode(await answer.read_all(COUNT_ANSWER_BYTES)).count
            finally:
                await answer.close()
        except (NusagateError, msgspec.DecodeError, RecursionError):
            return None

    async def close(self) -> None:
        """Close all connections; answers that are still open end with an error.

        The short wait lets the client's own threads come to rest: an interpreter that ends while one of them
        hands an object back is aborted.
        """
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()
        if clients:
            await asyncio.sleep(SETTLE_S)

    def _request(
        self, upstream: Upstream, path: str, body: bytes, *, request_id: str, accept: str
    ) -> StreamRequest:
        """Build the request from scratch: nothing that the gateway's own client sent can be in its headers."""
        headers = [
            ("content-type", "application/json"),
            ("accept", accept),
            ("accept-encoding", "identity"),
            ("x-request-id", request_id),
            ("user-agent", "nusagate"),
        ]
        builder = self._client_for(upstream).post(upstream.base_url + path).headers(headers)
        if upstream.api_key is not None:
            builder = builder.header("authorization", f"Bearer {upstream.api_key}", is_sensitive=True)
        return builder.body_bytes(body).streamed_read_buffer_limit(READ_BUFFER_BYTES).build_streamed()

    def _client_for(self, upstream: Upstream) -> Client:
        """Return the client with this upstream's timeouts, which the one underneath sets once for all requests."""
        read_timeout_s = max(upstream.first_byte_timeout_s, upstream.idle_timeout_s) + READ_TIMEOUT_MARGIN_S
        timeouts = (upstream.connect_timeout_s, read_timeout_s)
        client = self._clients.get(timeouts)
        if client is None:
            client = self._clients[timeouts] = _build(*timeouts)
        return client


def _build(connect_timeout_s: float, read_timeout_s: float) -> Client:
    """Build a client that does nothing by itself: no redirects, cookies, proxies or decompression."""
    return (
        ClientBuilder()
        .http1_only()
        .tcp_nodelay(enabled=True)
        .max_connections(None)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
        .pool_idle_timeout(timedelta(seconds=IDLE_CONNECTION_S))
        .connect_timeout(timedelta(seconds=connect_timeout_s))
        .read_timeout(timedelta(seconds=read_timeout_s))
        .follow_redirects(enable=False)
        .default_cookie_store(enable=False)
        .no_proxy()
        .referer(enable=False)
        .gzip(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .deflate(enable=False)
        .error_for_status(enable=False)
        .build()
    )


async def _abandon(request: StreamRequest) -> None:
    """Cut a request that may or may not have an answer."""
    with contextlib.suppress(PyreqwestError, RuntimeError):
        await request.__aexit__(None, None, None)


def _kept_headers(response: Response) -> dict[str, str]:
    """Copy the few headers that matter."""
    return {name: value for name in HEADERS_KEPT if (value := response.get_header(name)) is not None}


def _refuse_compressed(response: Response) -> None:
    """Refuse an answer in an encoding that was not asked for: nobody here could read the usage in it."""
    encoding = response.get_header("content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise UpstreamReset


def _failure(error: PyreqwestError) -> NusagateError:
    """Name what happened; see the module's docstring for why the classes of the client do not say it."""
    if isinstance(error, DetailedPyreqwestError):
        causes = error.details["causes"] or []
        if any(cause["message"] == CONNECT_PHASE for cause in causes):
            return UpstreamUnreachable()
    if isinstance(error, RequestTimeoutError):
        return UpstreamTimeout()
    return UpstreamReset()
