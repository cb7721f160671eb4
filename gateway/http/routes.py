"""The routes that serve no tokens: models, the calling key, usage, stored responses, health and metrics."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, delete, get, post
from litestar.datastructures import State

from gateway.clock import day_end, day_of, format_utc, month_end, month_of, month_start
from gateway.db.pool import pinger
from gateway.errors import InvalidValue
from gateway.http.openapi import openapi_document
from gateway.http.reading import RequestHeaders, client_address
from gateway.http.services import Services
from gateway.http.wire_errors import LimitsUnavailable
from gateway.keys.model import Endpoint, KeyRecord, check_endpoint, check_ip, check_model
from gateway.ledger import store as ledger_store
from gateway.quota import model as quota_model
from gateway.quota import service as quota_service
from gateway.refusals import store as refusal_store
from gateway.responses import service as responses_service
from gateway.responses import store as responses_store
from gateway.responses.conversation import ResponseNotFound
from gateway.runtime import metrics
from gateway.runtime.health import readiness
from gateway.upstream.catalogue import Model

JSON = MediaType.JSON
ENCODER = msgspec.json.Encoder()
USAGE_RANGE_MAX = timedelta(days=366)

Caller = Request[Any, Any, State]


def _services(request: Caller) -> Services:
    services: Services = request.app.state["services"]
    return services


async def _authenticate(request: Caller) -> tuple[Services, KeyRecord]:
    services = _services(request)
    if services.meter.refuses:
        raise LimitsUnavailable
    headers = RequestHeaders(request.scope, max_bytes=services.settings.limits.max_header_bytes)  # type: ignore[arg-type]
    record = await services.keys.authenticate(headers.presented_key or "")
    check_ip(record, client_address(request.scope, headers, services.settings.trusted_proxies))  # type: ignore[arg-type]
    return services, record


async def _authenticate_for_responses(request: Caller) -> tuple[Services, KeyRecord]:
    """Authenticate for what is stored of responses, which is open to the keys that may make them."""
    services, record = await _authenticate(request)
    check_endpoint(record, Endpoint.RESPONSES)
    return services, record


def _json(value: object) -> Response[bytes]:
    return Response(value if isinstance(value, bytes) else ENCODER.encode(value), media_type=JSON)


@get("/v1/models")
async def list_models(request: Caller) -> Response[bytes]:
    """List the models that the calling key may use."""
    services, record = await _authenticate(request)
    models = [_model(model) for model in services.catalogue.models.values() if _usable(record, model)]
    return _json({"object": "list", "data": models})


@get("/v1/models/{model_id:path}")
async def get_model(request: Caller, model_id: str) -> Response[bytes]:
    """Show one model."""
    services, record = await _authenticate(request)
    model = services.catalogue.get(model_id.lstrip("/"))
    check_model(record, model.id)
    return _json(_model(model))


@get("/v1/auth/key")
async def get_key(request: Caller) -> Response[bytes]:
    """Describe the calling key: what it may do, and what it has used today and this month."""
    services, record = await _authenticate(request)
    now = await quota_service.now(services.db)
    month, day = month_of(now), day_of(now)
    limits = record.limits
    counted = await quota_service.counters(
        services.db, record.account_id, [record.account_id, record.key_id], [month, day]
    )
    return _json(
        {
            "object": "api_key",
            "id": record.key_id,
            "name": record.name,
            "key": f"{record.prefix}…{record.last4}",
            "account_id": record.account_id,
            "tier": record.plan_id,
            "permissions": sorted(record.endpoints or [endpoint.value for endpoint in Endpoint]),
            "models": None if record.models is None else sorted(record.models),
            "usage_info": {
                "daily": _used(
                    counted.get((record.account_id, day)), limits.daily_tokens, format_utc(day_end(day))
                ),
                "monthly": _used(
                    counted.get((record.account_id, month)),
                    record.month_limit(now),
                    format_utc(month_end(month)),
                ),
                "key_monthly": _used(
                    counted.get((record.key_id, month)), record.monthly_tokens, format_utc(month_end(month))
                ),
            },
            "created": format_utc(record.created_at),
            "expires": None if record.expires_at is None else format_utc(record.expires_at),
        }
    )


@get("/v1/usage")
async def get_usage(request: Caller) -> Response[bytes]:
    """Sum the account's own usage over a range of time, and forecast the month."""
    services, record = await _authenticate(request)
    now = await quota_service.now(services.db)
    query = request.query_params
    for name in query:
        if name not in {"start", "end", "group_by"}:
            raise InvalidValue(f"Unknown query parameter: {name!r}.", param=name)
    group_by = query.get("group_by", "model")
    if group_by not in ledger_store.USAGE_GROUPS:
        raise InvalidValue(
            f"'group_by' must be one of {', '.join(ledger_store.USAGE_GROUPS)}.", param="group_by"
        )
    start = _moment("start", query.get("start"), month_start(month_of(now)))
    end = _moment("end", query.get("end"), now + timedelta(seconds=1))
    if not timedelta(0) < end - start <= USAGE_RANGE_MAX:
        raise InvalidValue(
            f"'end' must be after 'start' by at most {USAGE_RANGE_MAX.days} days.", param="end"
        )
    rows = await ledger_store.usage(services.db, record.account_id, group_by, start, end)
    refused = await refusal_store.by_reason(services.db, record.account_id, start, end)
    view = await quota_service.show(
        services.db,
        record.account_id,
        record.month_limit(now),
        now=now,
        engine=services.meter.engine,
    )
    return _json(
        {
            "object": "usage",
            "account_id": record.account_id,
            "start": format_utc(start),
            "end": format_utc(end),
            "group_by": group_by,
            "data": rows,
            "total_tokens": sum(row.total_tokens for row in rows),
            "requests": sum(row.requests for row in rows),
            "refused": refused,
            "month": view,
            "forecast": {
                "tokens_at_reset": quota_model.forecast(view.used, now),
                "resets_at": view.resets_at,
                "method": "used so far, continued at the month's average pace",
            },
        }
    )


@get("/v1/responses/{response_id:str}")
async def get_response(request: Caller, response_id: str) -> Response[bytes]:
    """Return a stored response of the caller's account."""
    services, record = await _authenticate_for_responses(request)
    return _json(await responses_store.find_response(services.db, record.account_id, _askable(response_id)))


@delete("/v1/responses/{response_id:str}", status_code=200)
async def delete_response(request: Caller, response_id: str) -> Response[bytes]:
    """Forget a stored response."""
    services, record = await _authenticate_for_responses(request)
    await responses_store.delete_response(services.db, record.account_id, _askable(response_id))
    return _json({"id": response_id, "object": "response", "deleted": True})


@get("/v1/responses/{response_id:str}/input_items")
async def list_input_items(request: Caller, response_id: str) -> Response[bytes]:
    """Page through what a stored response was made from."""
    services, record = await _authenticate_for_responses(request)
    query = request.query_params
    limit = query.get("limit", "20")
    if not limit.isascii() or not limit.isdigit():
        raise InvalidValue("'limit' must be an integer.", param="limit")
    page = await responses_service.input_items_page(
        services.db,
        record.account_id,
        _askable(response_id),
        order=query.get("order", "desc"),
        limit=int(limit[:9]),
        after=query.get("after"),
    )
    return _json(page)


@post("/v1/responses/{response_id:str}/cancel", status_code=200)
async def cancel_response(request: Caller, response_id: str) -> Response[bytes]:
    """Refuse: answers are stored when they have ended, and then there is nothing to cancel."""
    services, record = await _authenticate_for_responses(request)
    await responses_store.find_response(services.db, record.account_id, _askable(response_id))
    raise InvalidValue(
        "This response has ended already; only a running one can be cancelled.", param="response_id"
    )


@get("/healthz", media_type=MediaType.TEXT)
async def healthz() -> str:
    """Say that the process lives."""
    return "ok"


@get("/readyz")
async def readyz(request: Caller) -> Response[bytes]:
    """Say whether requests can be served now, and what stands in the way."""
    services = _services(request)
    state = await readiness(pinger(services.db), draining=services.exchanges.draining)
    return Response(ENCODER.encode(state), media_type=JSON, status_code=200 if state.ready else 503)


@get("/metrics")
async def get_metrics() -> Response[bytes]:
    """Expose all metrics in the Prometheus text format."""
    return Response(metrics.exposition(), media_type=metrics.MEDIA_TYPE)


@get("/openapi.json")
async def get_openapi(request: Caller) -> Response[bytes]:
    """Describe this API."""
    return _json(openapi_document(_services(request).settings.api_url))


ROUTES = [
    list_models,
    get_model,
    get_key,
    get_usage,
    get_response,
    delete_response,
    list_input_items,
    cancel_response,
    healthz,
    readyz,
    get_metrics,
    get_openapi,
]


def _askable(response_id: str) -> str:
    """Return an id that Postgres can be asked for; no response has U+0000 in its id."""
    if "\0" in response_id:
        raise ResponseNotFound
    return response_id


def _usable(record: KeyRecord, model: Model) -> bool:
    return record.models is None or model.id in record.models


def _model(model: Model) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
    }


def _used(counted: tuple[int, int] | None, limit: int | None, reset_at: str) -> dict[str, object]:
    used, held = counted or (0, 0)
    remaining = None if limit is None else max(0, limit - used - held)
    return {"used": used, "held": held, "limit": limit, "remaining": remaining, "reset_at": reset_at}


def _moment(name: str, text: str | None, default: datetime) -> datetime:
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidValue(
            f"{name!r} must be a time like 2026-11-01 or 2026-11-01T00:00:00Z.", param=name
        ) from error
