"""The endpoints that serve tokens, as a plain ASGI application: one page from the first byte to the last.

It stands in front of the framework that serves everything else, because routing and response machinery would cost
more than the relay itself.
"""

import functools

from gateway.errors import InvalidJson, NusagateError
from gateway.http.idempotency import claim, give_up
from gateway.http.orders import Order, OrderReader, read_chat, read_embeddings, read_responses
from gateway.http.rate_headers import standing_headers
from gateway.http.reading import ClientLeft, Receive, RequestHeaders, Scope, client_address, read_body
from gateway.http.services import Services
from gateway.http.wire_errors import LimitsUnavailable, as_known, render_error
from gateway.ids import request_label, uuid7
from gateway.keys.model import Endpoint, KeyRecord, check_endpoint, check_ip
from gateway.proxy.downstream import Headers, Send
from gateway.proxy.exchange import Exchange
from gateway.runtime import metrics
from gateway.runtime.logging import describe, get_logger

log = get_logger("http")

ENDPOINTS: dict[tuple[str, str], tuple[Endpoint, OrderReader]] = {
    ("POST", "/v1/responses"): (Endpoint.RESPONSES, read_responses),
    ("POST", "/v1/chat/completions"): (Endpoint.CHAT_COMPLETIONS, read_chat),
    ("POST", "/v1/embeddings"): (Endpoint.EMBEDDINGS, read_embeddings),
}
"""Every route that is served here; all others are the framework's."""


async def serve_inference(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request of ``ENDPOINTS``; every way out has an answer, and none of them raises."""
    endpoint, read_order = ENDPOINTS[scope["method"], scope["path"]]
    call = Call(services, endpoint, scope, receive, send)
    try:
        await call.serve(read_order)
    except ClientLeft:
        # Nobody is there, or what they sent was not a whole request; whoever still listens gets an answer.
        await call.refuse(InvalidJson("The request ended before its body was whole."))
    except Exception as error:  # whatever went wrong, the client gets an answer in our shape
        await call.refuse(error)


class Call:
    """One request on its way to its exchange."""

    def __init__(
        self, services: Services, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._record: KeyRecord | None = None
        self._request_id = uuid7()
        self._label = request_label(self._request_id)

    async def serve(self, read_order: OrderReader) -> None:
        """Authenticate, read, reserve, relay."""
        services = self._services
        limits = services.settings.limits
        headers = RequestHeaders(self._scope, max_bytes=limits.max_header_bytes)
        if services.meter.refuses:
            raise LimitsUnavailable
        record = self._record = await services.keys.authenticate(headers.presented_key or "")
        check_endpoint(record, self._endpoint)
        check_ip(record, client_address(self._scope, headers, services.settings.trusted_proxies))
        services.exchanges.check_room()
        body = await read_body(headers, self._receive, limits)
        order = await read_order(services, record, body)
        key = headers.get(b"idempotency-key")
        if key is None:
            await self._relay(order, record, replay_key=None)
            return
        replay = await claim(
            services.db, record.account_id, key, self._request_id, endpoint=self._endpoint, body=body
        )
        if replay is not None:
            await self._reply(200, [*self._own_headers(), (b"content-type", b"application/json")], replay)
            return
        try:
            await self._relay(order, record, replay_key=key)
        except Exception:
            await give_up(services.db, record.account_id, key, self._request_id)
            raise

    async def refuse(self, error: Exception) -> None:
        """Answer with an error; one that is not ours is a bug, logged where it happened and without its text."""
        known = as_known(error)
        if known.code == NusagateError.code:
            log.error("request failed", request_id=self._label, endpoint=self._endpoint, **describe(error))
        self._services.refusals.note(self._record, known, self._services.clock.now())
        status, headers, body = render_error(known, self._label, self._own_headers())
        await self._reply(status, headers, body)

    async def _relay(self, order: Order, record: KeyRecord, *, replay_key: str | None) -> None:
        services = self._services
        limits = services.settings.limits
        now = services.clock.now()
        hold = await services.meter.admit(
            order.reserve_request(self._request_id, record, limits.request_timeout_s, now)
        )
        services.last_used.mark(record.key_id, order.model.id, now)
        metrics.count(metrics.requests_total, self._endpoint, "admitted")
        exchange = Exchange(
            services.transport,
            hold,
            order.model,
            order.make_wire(hold.reservation),
            send=self._send,
            headers=[*self._own_headers(), *standing_headers(hold.reservation.standing), *order.headers],
            request_id=self._label,
            fail=functools.partial(_fail, self._label),
            replay_key=replay_key if order.keeps_answer and not order.stream else None,
        )
        await services.exchanges.serve(exchange, self._receive, record.on_disconnect)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self._label.encode())]

    async def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        metrics.count(metrics.requests_total, self._endpoint, str(status))
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self._send({"type": "http.response.body", "body": body})


def _fail(label: str, error: NusagateError, headers: Headers) -> tuple[int, Headers, bytes]:
    return render_error(error, label, headers)
