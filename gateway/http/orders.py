"""What a request asks for, read and bounded, before anything is reserved: one reader for each endpoint."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from gateway.http.responses_wire import responses_wire
from gateway.http.services import Services
from gateway.keys.model import Endpoint, KeyRecord, check_model
from gateway.plans.model import Billing
from gateway.proxy.chat import ChatWire
from gateway.proxy.chat_request import parse_chat_request
from gateway.proxy.downstream import Headers
from gateway.proxy.embeddings import EmbeddingsWire, parse_embeddings_request
from gateway.proxy.wire import Wire
from gateway.quota.model import Reservation, ReserveRequest, output_least, output_wanted
from gateway.responses.prompt import fit_window, prompt_bytes
from gateway.responses.request import parse_request
from gateway.responses.service import whole_conversation
from gateway.upstream.catalogue import Model

DEPRECATED_ALIAS = (
    (b"deprecation", b"true"),
    (b"link", b'</docs>; rel="deprecation"; title="use max_output_tokens"'),
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be admitted: its bounds in tokens, and how its wire is made once it is."""

    endpoint: Endpoint
    model: Model
    stream: bool
    user: str | None
    input_tokens: int
    output_tokens: int
    output_min: int
    choices: int
    make_wire: Callable[[Reservation], Wire]
    headers: Headers = ()
    keeps_answer: bool = True

    def reserve_request(
        self, request_id: UUID, record: KeyRecord, deadline_s: int, now: datetime
    ) -> ReserveRequest:
        """Write the order as the limits are asked: with every limit that is in force for the key."""
        limits = record.limits
        return ReserveRequest(
            request_id=request_id,
            account_id=record.account_id,
            key_id=record.key_id,
            model=self.model.id,
            endpoint=self.endpoint,
            stream=self.stream,
            end_user=self.user,
            plan_id=record.plan_id,
            billable=record.billing is Billing.METERED,
            currency=record.currency,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            output_min=self.output_min,
            choices=self.choices,
            deadline_s=deadline_s,
            month_limit=record.month_limit(now),
            day_limit=limits.daily_tokens,
            key_limit=record.monthly_tokens,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrency=limits.concurrency,
        )


OrderReader: TypeAlias = Callable[[Services, KeyRecord, bytes], Awaitable[Order]]


async def read_responses(services: Services, record: KeyRecord, body: bytes) -> Order:
    """Read a Responses request; what it continues is fetched, so that the whole input is known."""
    limits = services.settings.limits
    request = parse_request(body, max_depth=limits.max_json_depth)
    model = _allowed_model(services, record, request.model)
    conversation = await whole_conversation(
        services.db, record.account_id, request, max_bytes=limits.max_body_bytes
    )
    bound = services.bounds[model.id]
    conversation = fit_window(request, conversation, bound, context_window=model.context_window)
    return Order(
        endpoint=Endpoint.RESPONSES,
        model=model,
        stream=request.stream,
        user=request.user,
        input_tokens=bound.tokens(prompt_bytes(request, conversation)),
        output_tokens=output_wanted(request.max_output_tokens, model.max_output_tokens),
        output_min=output_least(request.max_output_tokens),
        choices=1,
        make_wire=lambda reservation: responses_wire(
            request, conversation, model, reservation, keep_days=limits.stored_response_days
        ),
        headers=DEPRECATED_ALIAS if request.used_max_tokens_alias else (),
        keeps_answer=request.store,
    )


async def read_chat(services: Services, record: KeyRecord, body: bytes) -> Order:
    """Read a Chat Completions request."""
    limits = services.settings.limits
    request = parse_chat_request(body, max_depth=limits.max_json_depth, max_choices=limits.max_choices)
    model = _allowed_model(services, record, request.model)
    output_tokens, output_min = request.output_bounds(model)
    return Order(
        endpoint=Endpoint.CHAT_COMPLETIONS,
        model=model,
        stream=request.stream,
        user=request.user,
        input_tokens=services.bounds[model.id].tokens(request.prompt_bytes),
        output_tokens=output_tokens,
        output_min=output_min,
        choices=request.choices,
        make_wire=lambda reservation: ChatWire(request, model, reservation.granted_output_tokens),
    )


async def read_embeddings(services: Services, record: KeyRecord, body: bytes) -> Order:
    """Read an embeddings request; it writes no tokens."""
    request = parse_embeddings_request(body, max_depth=services.settings.limits.max_json_depth)
    model = _allowed_model(services, record, request.model)
    return Order(
        endpoint=Endpoint.EMBEDDINGS,
        model=model,
        stream=False,
        user=request.user,
        input_tokens=services.bounds[model.id].tokens(request.prompt_bytes),
        output_tokens=0,
        output_min=0,
        choices=1,
        make_wire=lambda _reservation: EmbeddingsWire(request, model),
    )


def _allowed_model(services: Services, record: KeyRecord, model_id: str) -> Model:
    model = services.catalogue.get(model_id)
    check_model(record, model_id)
    return model
