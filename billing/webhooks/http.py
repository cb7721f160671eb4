"""Where Stripe sends its events: proved, kept, answered, in that order; the work is done later, from the table.

Two addresses, because a destination of Stripe's sends one form of event: snapshots (v1) or thin events (v2).
Plain ASGI, so that it can be mounted anywhere; ``endpoints`` lists them with their paths.
"""

from collections.abc import Callable, Mapping

import msgspec

from billing.settings import StripeSettings
from billing.webhooks import store
from billing.webhooks.model import Form, MalformedEvent, read_event
from billing.webhooks.signature import WebhookRefused, verify
from gateway.clock import Clock
from gateway.db.pool import Db, is_operational
from gateway.errors import ConfigurationError
from gateway.http.reading import Receive, Scope
from gateway.proxy.downstream import Send
from gateway.runtime import metrics
from gateway.runtime.logging import describe, get_logger

SNAPSHOT_PATH = "/webhooks/stripe"
THIN_PATH = "/webhooks/stripe/thin"
BODY_BYTES_MAX = 1024 * 1024
"""Far above any event of ours; an invoice has ten lines in an event at most."""

log = get_logger("webhooks")


class BodyTooLarge(WebhookRefused):
    """The body is larger than any event."""

    code = "webhook_too_large"


class WebhookEndpoint:
    """Receives one form of event under one secret; ``db`` is asked for when an event comes."""

    def __init__(self, db: Callable[[], Db], clock: Clock, *, secret: str, form: Form) -> None:
        if not secret:
            raise ConfigurationError("a webhook secret is empty, so anybody could forge Stripe's events")
        self._db = db
        self._clock = clock
        self._secret = secret
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 200 once an event is kept; anything else makes Stripe send it again, or says why not to."""
        if scope["method"] != "POST":
            await _answer(send, 405, "Events are posted.")
            return
        try:
            is_new = await self._receive(scope, receive)
        except BodyTooLarge as refused:
            await _refuse(send, 413, refused)
        except (WebhookRefused, MalformedEvent) as refused:
            await _refuse(send, 400, refused)
        except Exception as error:  # Stripe sends it again
            _count("unavailable")
            log.error(
                "webhook not kept",
                state="operational" if is_operational(error) else "bug",
                **describe(error),
            )
            await _answer(send, 503, "The event could not be kept; send it again.")
        else:
            _count("kept" if is_new else "repeated")
            await _answer(send, 200, "kept" if is_new else "known")

    async def _receive(self, scope: Scope, receive: Receive) -> bool:
        body = await _read(receive)
        now = self._clock.now()
        verify(body, _signature(scope), self._secret, now_s=int(now.timestamp()))
        return await store.insert(self._db(), read_event(body, self._form), now)


def endpoints(db: Callable[[], Db], clock: Clock, settings: StripeSettings) -> Mapping[str, WebhookEndpoint]:
    """List the endpoints by path; that for thin events only where it has a secret."""
    made = {
        SNAPSHOT_PATH: WebhookEndpoint(db, clock, secret=settings.webhook_secret, form=Form.SNAPSHOT),
    }
    if settings.thin_webhook_secret is not None:
        made[THIN_PATH] = WebhookEndpoint(db, clock, secret=settings.thin_webhook_secret, form=Form.THIN)
    return made


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise WebhookRefused("The body did not arrive.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge
    return bytes(body)


def _signature(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name.lower() == b"stripe-signature"]
    if len(values) != 1:
        raise WebhookRefused("There must be one Stripe-Signature header.")
    return bytes(values[0]).decode("latin-1")


async def _refuse(send: Send, status: int, refused: WebhookRefused | MalformedEvent) -> None:
    _count("refused")
    log.warning("webhook refused", code=refused.code, reason=refused.message)
    await _answer(send, status, refused.message)


async def _answer(send: Send, status: int, text: str) -> None:
    body = msgspec.json.encode({"message": text})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _count(outcome: str) -> None:
    metrics.webhooks_total.labels(outcome).inc()
