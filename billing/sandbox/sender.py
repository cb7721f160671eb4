"""Sends deliveries over the network, signed as Stripe signs them.

``Stripe-Signature`` is ``t=<seconds>,v1=<HMAC-SHA256 of "t.body">`` (docs.stripe.com/webhooks/signature).
``t`` is the machine's time, not the sandbox's: receivers compare it with their own clock.
"""

import asyncio
import hashlib
import hmac
import http.client
from urllib.parse import urlsplit

import msgspec

from billing.sandbox.deliveries import due, settle
from billing.sandbox.destinations import address_of
from billing.sandbox.state import Delivery
from billing.sandbox.world import World
from gateway.clock import unix_seconds

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024


class Sender:
    """Sends what is due, one delivery at a time, so that scripted orders are kept on the wire."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._turn = asyncio.Lock()

    async def send_due(self) -> int:
        """Try every delivery that is due, including those that the receivers' own requests bring; count tries."""
        tries = 0
        async with self._turn:
            while waiting := due(self._world):
                for delivery in waiting:
                    await self._try(delivery)
                    tries += 1
        return tries

    async def _try(self, delivery: Delivery) -> None:
        address = address_of(self._world, delivery.destination)
        if address is None:
            delivery.state = "lost"
            return
        url, secret = address
        body = event_body(self._world, delivery.event)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": sign(body, secret, unix_seconds()),
        }
        status = await asyncio.to_thread(_post, url, body, headers)
        settle(self._world, delivery, status)
        self._world.changes += 1


def event_body(world: World, event_id: str) -> bytes:
    """Write the body of a delivery: a whole v1 event, or a v2 event without its data."""
    thin = world.table("v2.core.event").get(event_id)
    if thin is None:
        return msgspec.json.encode(world.table("event")[event_id])
    return msgspec.json.encode({name: value for name, value in thin.items() if name != "data"})


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the ``Stripe-Signature`` of a body at a moment in Unix seconds."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Post to a loopback address; return the status, or 0 if there was no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT_S
    )
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()
