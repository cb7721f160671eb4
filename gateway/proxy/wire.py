"""What the relay needs to know of an API: how its answers are read, watched and ended.

The relay is the same for every endpoint. An endpoint brings a ``Wire``, made fresh for each request, which turns
what the upstream sends into what the client gets, and keeps back the part that may only be sent once the
request is in the ledger.
"""

from typing import Protocol, Self

import msgspec

from gateway.errors import NusagateError
from gateway.ledger.model import Charge, EndReason, KeptAnswer
from gateway.metering.charge import Delivery
from gateway.proxy.sse import SseEvent
from gateway.upstream.catalogue import Upstream
from gateway.upstream.routing import UpstreamCall

MESSAGE_MAX_CHARACTERS = 1_000


class MalformedAnswer(NusagateError):
    """The model sent an answer that cannot be read."""

    code = "upstream_error"


class UpstreamFailed(NusagateError):
    """The model failed to answer."""

    code = "upstream_error"


class ShuttingDown(NusagateError):
    """The gateway is restarting; what was served so far is recorded."""

    code = "upstream_unavailable"


class UpstreamRefused(NusagateError):
    """The model refused the request."""

    code = "invalid_request_error"

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """Take over what the upstream says is wrong with the request, if it says it in the usual shape."""
        try:
            message = _ERROR_DECODER.decode(body).error.message
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = None
        return cls(message and f"The model refused the request: {message[:MESSAGE_MAX_CHARACTERS]}")


class _ErrorDetail(msgspec.Struct):
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


_ERROR_DECODER = msgspec.json.Decoder(_ErrorBody)


class Failure(msgspec.Struct, frozen=True):
    """Why an answer failed, in the words of the error table, and the id of its request."""

    code: str
    message: str
    request_id: str


class Wire(Protocol):
    """One request's way through one API."""

    stream: bool

    @property
    def complete(self) -> bool:
        """Whether the upstream has said everything; what follows is not read."""
        ...

    def prepare(self, upstream: Upstream) -> UpstreamCall:
        """Write the request as this upstream wants it; the last call is the one that is answered."""
        ...

    def open(self) -> bytes:
        """Return the bytes that begin a stream, before the upstream's first event."""
        ...

    def feed(self, event: SseEvent) -> bytes:
        """Take an event of the upstream and return what the client gets of it now."""
        ...

    def take_body(self, body: bytes) -> None:
        """Take the whole answer of an upstream that does not stream; ``MalformedAnswer`` if it cannot be read."""
        ...

    def ending(self) -> EndReason:
        """Say how an answer whose upstream has finished came out."""
        ...

    def delivery(self) -> Delivery:
        """Say what is known of the answer's tokens so far."""
        ...

    def texts(self) -> tuple[str, str]:
        """Return the prompt and what was written, for an upstream that counts tokens."""
        ...

    def close(self, charged: Charge | None, failure: Failure | None) -> "Closing":
        """Return the part that was kept back; it is sent once the request is in the ledger.

        With a ``failure`` the answer ends as the API says that answers fail.
        """
        ...


class Closing(msgspec.Struct, frozen=True):
    """The end of an answer: the last bytes for the client, and what the gateway keeps of it."""

    last: bytes
    kept: KeptAnswer | None = None
