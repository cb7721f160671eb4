"""The HTTP client under Stripe's SDK: the one that the gateway uses for its upstreams, with limits of its own."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import stripe
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

CONNECT_TIMEOUT_S = 5
IDLE_CONNECTION_S = 20
SETTLE_S = 0.05
"""The client's own threads come to rest before the interpreter may end."""


class Transport(stripe.HTTPClient):
    """Carries the SDK's requests; whatever goes wrong on the way is the SDK's connection error."""

    name = "pyreqwest"

    def __init__(self, *, timeout_s: int, connections: int) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._connections = connections
        self._client: Client | None = None

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | bytes | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read its whole answer."""
        if self._client is None:
            self._client = _build(self._timeout_s, self._connections)
        request = self._client.request(method.upper(), url).headers(dict(headers))
        if post_data:
            body = post_data.encode() if isinstance(post_data, str) else post_data
            request = request.body_bytes(body)
        try:
            answer = await request.build().send()
            content = bytes(await answer.bytes())
        except PyreqwestError as error:
            raise stripe.APIConnectionError("Stripe could not be reached.") from error  # type: ignore[no-untyped-call]
        return content, answer.status, {name.lower(): value for name, value in answer.headers.items()}

    async def close_async(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            await asyncio.sleep(SETTLE_S)


def _build(timeout_s: int, connections: int) -> Client:
    return (
        ClientBuilder()
        .tcp_nodelay(enabled=True)
        .max_connections(connections)
        .pool_max_idle_per_host(connections)
        .pool_idle_timeout(timedelta(seconds=IDLE_CONNECTION_S))
        .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
        .timeout(timedelta(seconds=timeout_s))
        .follow_redirects(enable=False)
        .error_for_status(enable=False)
        .build()
    )
