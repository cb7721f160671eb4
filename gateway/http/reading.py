"""Reading a request: its headers and its body, each within limits that hold before anything is stored."""

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from gateway.errors import InvalidJson, InvalidValue, NusagateError
from gateway.runtime.settings import Limits, Network
from gateway.runtime.watchdog import Watchdog

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]


class RequestTooLarge(NusagateError):
    """The request is larger than allowed."""

    code = "request_too_large"


class ClientLeft(Exception):
    """The client left before its request was whole."""


class RequestHeaders:
    """The headers that the gateway looks at; a header that is sent twice counts as wrong where it matters."""

    __slots__ = ("_headers",)

    def __init__(self, scope: Scope, *, max_bytes: int) -> None:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        if sum(len(name) + len(value) for name, value in raw) > max_bytes:
            raise RequestTooLarge(f"The headers are larger than {max_bytes:,} bytes.")
        self._headers: dict[bytes, bytes] = {}
        for name, value in raw:
            self._headers[name] = value if name not in self._headers else self._headers[name] + b", " + value

    def get(self, name: bytes) -> str | None:
        """Return a header's text, or ``None``."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def presented_key(self) -> str | None:
        """The API key, from ``Authorization: Bearer`` or ``x-api-key``."""
        authorization = self._headers.get(b"authorization")
        if authorization is None:
            return self.get(b"x-api-key")
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


def client_address(scope: Scope, headers: RequestHeaders, trusted: Sequence[Network]) -> str:
    """Return the address of the client: the nearest one that is not a trusted proxy's.

    ``X-Forwarded-For`` is believed only as far as trusted proxies wrote it, from its right end.
    """
    address = str(scope["client"][0]) if scope.get("client") else ""
    if not trusted:
        return address
    hops = [hop.strip() for hop in (headers.get(b"x-forwarded-for") or "").split(",") if hop.strip()]
    while hops and _is_trusted(address, trusted):
        address = hops.pop()
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


async def read_body(headers: RequestHeaders, receive: Receive, limits: Limits) -> bytes:
    """Read the whole body; ``RequestTooLarge`` before it is read whole, ``ClientLeft`` if it never is."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise InvalidValue("A compressed body is not accepted.", param="content-encoding")
    announced = headers.get(b"content-length")
    announced_bytes = int(announced) if announced is not None and announced.isdigit() else None
    if announced_bytes is not None and announced_bytes > limits.max_body_bytes:
        raise RequestTooLarge(f"The body is larger than {limits.max_body_bytes:,} bytes.")
    watchdog = Watchdog(limits.body_timeout_s, lambda: _late(limits))
    try:
        return await _collect(receive, watchdog, limits, whole_bytes=announced_bytes)
    finally:
        watchdog.stop()


def _late(limits: Limits) -> InvalidJson:
    return InvalidJson(f"The body did not arrive within {limits.body_timeout_s} s.")


async def _collect(receive: Receive, watchdog: Watchdog, limits: Limits, *, whole_bytes: int | None) -> bytes:
    """Join the parts of a body until it is whole; the server says so late, what the client announced says it at once."""
    parts = []
    size = 0
    more = True
    while more:
        message = await watchdog.wait(receive, limits.body_timeout_s)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message["body"])
        size += len(message["body"])
        if size > limits.max_body_bytes:
            raise RequestTooLarge(f"The body is larger than {limits.max_body_bytes:,} bytes.")
        more = message["more_body"] and size != whole_bytes
    return b"".join(parts)
