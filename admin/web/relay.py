"""The way from a portal to the gateway: one POST over HTTP, like any program's, and an answer that is passed on.

A portal is a client of the gateway and nothing more. What it sends is metered, limited and refused like everybody's;
when the browser leaves, the portal leaves too, and the gateway does what the plan says.
"""

import asyncio
import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta

import msgspec

from admin.access.model import AccessError
from admin.settings import PortalSettings
from gateway.clock import Clock, monotonic_s
from gateway.errors import NusagateError
from gateway.runtime.health import Readiness
from gateway.upstream.catalogue import Dialect, Upstream
from gateway.upstream.client import (
    UpstreamAnswer,
    UpstreamAnswerTooLarge,
    UpstreamClient,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)

CONNECT_TIMEOUT_S = 3
HEALTH_TIMEOUT_S = 3
HEALTH_BYTES_MAX = 64 * 2**10
OK = 200
EVENTS = "text/event-stream"
JSON = "application/json"


class GatewayAway(AccessError):
    """The portal cannot reach the gateway. Nothing was sent to a model, and nothing is charged."""

    code = "gateway_away"


class GatewayBroke(AccessError):
    """The answer broke off between the gateway and the portal. What was counted is on the page of usage."""

    code = "gateway_broke"


class AnswerTooLong(AccessError):
    """The answer took longer, or became larger, than the playground waits for. What was counted is on the page of usage."""

    code = "answer_too_long"


class PlaygroundFull(AccessError):
    """Too many people use the playground at this moment. Try again in a minute."""

    code = "playground_full"


FAULTS: tuple[type[AccessError], ...] = (GatewayAway, GatewayBroke, AnswerTooLong, PlaygroundFull)


class Health(msgspec.Struct, frozen=True):
    """What the gateway said when it was asked whether it can serve; status 0 is no answer."""

    status: int
    database: str
    asked_at: datetime


class Relay:
    """The connections of one portal to the gateway, and how many are in use."""

    def __init__(self, settings: PortalSettings, clock: Clock) -> None:
        self._clock = clock
        self._ready_url = f"{settings.gateway_url}/readyz"
        self._health: Health | None = None
        self._asking = asyncio.Lock()
        self._limits = settings.limits
        self._gateway = Upstream(
            name="gateway",
            base_url=f"{settings.gateway_url}/v1",
            dialect=Dialect.RESPONSES,
            api_key=None,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            first_byte_timeout_s=settings.limits.playground_timeout_s,
            idle_timeout_s=settings.limits.playground_timeout_s,
        )
        self._client = UpstreamClient.create()
        self._opening = 0
        self._answers: dict[UpstreamAnswer, float] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, key: str, body: bytes, *, accept: str, request_id: str) -> UpstreamAnswer:
        """Send a request and return when its answer begins; whoever asked must ``close`` it.

        ``GatewayAway``, ``AnswerTooLong``, ``PlaygroundFull``.
        """
        self._let_go_of_the_forgotten()
        if self._opening + len(self._answers) >= self._limits.playground_requests:
            raise PlaygroundFull
        self._opening += 1
        try:
            with named_faults():
                answer = await self._client.open(
                    msgspec.structs.replace(self._gateway, api_key=key),
                    "/responses",
                    body,
                    request_id=request_id,
                    accept=accept,
                    total_timeout_s=self._limits.playground_timeout_s,
                )
        finally:
            self._opening -= 1
        self._answers[answer] = monotonic_s() + self._limits.playground_timeout_s
        return answer

    async def close(self, answer: UpstreamAnswer) -> None:
        """Let go of an answer, whether it has ended or not; more than once is fine.

        It is done even if the caller is cancelled meanwhile, because that is how a browser's leaving arrives here.
        """
        await asyncio.shield(self._start_closing(answer))

    async def read(self, answer: UpstreamAnswer) -> bytes:
        """Read an answer to its end and let go of it; ``GatewayBroke``, ``AnswerTooLong``."""
        try:
            with named_faults():
                return await answer.read_all(self._limits.playground_answer_bytes)
        finally:
            await self.close(answer)

    async def pieces(self, answer: UpstreamAnswer) -> AsyncIterator[bytes]:
        """Pass an answer on as it comes; what breaks is told as a last event, in the shape of the API's own."""
        size = 0
        try:
            with named_faults():
                while (chunk := await answer.read_chunk()) is not None:
                    size += len(chunk)
                    if size > self._limits.playground_answer_bytes:
                        raise AnswerTooLong
                    yield chunk
        except AccessError as error:
            yield b"event: error\ndata: %b\n\n" % error_body(error)
        finally:
            await self.close(answer)

    async def health(self, *, fresh_s: int) -> Health:
        """Ask the gateway whether it can serve, or repeat what it said less than ``fresh_s`` ago.

        However many look at the page, the gateway is asked once.
        """
        async with self._asking:
            now = self._clock.now()
            if self._health is None or now - self._health.asked_at >= timedelta(seconds=fresh_s):
                status, database = await asyncio.to_thread(_ask, self._ready_url)
                self._health = Health(status, database, now)
            return self._health

    async def end(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _let_go_of_the_forgotten(self) -> None:
        """Close answers whose time is over: a generator that was never started never came to its end."""
        now_s = monotonic_s()
        for answer in [answer for answer, until_s in self._answers.items() if until_s < now_s]:
            self._start_closing(answer)

    def _start_closing(self, answer: UpstreamAnswer) -> "asyncio.Task[None]":
        self._answers.pop(answer, None)
        task = asyncio.get_running_loop().create_task(answer.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


@contextlib.contextmanager
def named_faults() -> Iterator[None]:
    """Say of the way to the gateway what the client says of any upstream."""
    try:
        yield
    except UpstreamUnreachable as error:
        raise GatewayAway from error
    except UpstreamReset as error:
        raise GatewayBroke from error
    except (UpstreamTimeout, UpstreamAnswerTooLarge) as error:
        raise AnswerTooLong from error


def _ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310 - the settings allow http and https only
            return answer.status, _database(answer.read(HEALTH_BYTES_MAX))
    except urllib.error.HTTPError as error:
        return error.code, _database(error.read(HEALTH_BYTES_MAX))
    except (OSError, http.client.HTTPException):
        return 0, "unknown"


def _database(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Readiness).checks.get("postgres", "unknown")
    except msgspec.DecodeError:
        return "unknown"


def error_body(error: NusagateError) -> bytes:
    """Write a fault of the way as the API writes an error, in an answer and in an event alike."""
    detail = {"type": "portal_error", "message": error.message, "param": error.param, "code": error.code}
    return msgspec.json.encode({"type": "error", "error": detail})
