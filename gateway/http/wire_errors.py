"""Errors on the wire: OpenAI's shape, the request's id, and headers that tell a client when to try again."""

from typing import Any

import msgspec

from gateway.db.pool import is_operational
from gateway.errors import NusagateError
from gateway.http.error_table import ERRORS
from gateway.http.rate_headers import standing_headers
from gateway.proxy.downstream import Headers
from gateway.quota.model import InsufficientQuota, RateLimited
from gateway.runtime import metrics

ENCODER = msgspec.json.Encoder()
RETRY_SOON_S = 1
UNAVAILABLE = 503


class NotFound(NusagateError):
    """There is nothing at this address."""

    code = "not_found"


class LimitsUnavailable(NusagateError):
    """The limits cannot be checked at the moment; nothing was sent to a model."""

    code = "limits_unavailable"


def as_known(error: Exception) -> NusagateError:
    """Turn any exception into one of ours; what the database's trouble is called does not reach clients."""
    if isinstance(error, NusagateError):
        return error
    if is_operational(error):
        metrics.operational_errors_total.labels(type(error).__name__).inc()
        return LimitsUnavailable()
    return NusagateError()


def render_error(error: NusagateError, request_id: str, headers: Headers) -> tuple[int, Headers, bytes]:
    """Write an error as (status, headers, body)."""
    row = ERRORS[error.code]
    metrics.count(metrics.refusals_total, error.code)
    detail: dict[str, Any] = {
        "message": error.message,
        "type": row.type,
        "param": error.param,
        "code": error.code,
    }
    extra: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), *headers]
    if isinstance(error, RateLimited):
        detail["limit"] = error.limit
        extra.append((b"retry-after", b"%d" % error.retry_after_s))
        extra += standing_headers(error.standing)
    elif isinstance(error, InsufficientQuota):
        detail["quota"] = error.quota
        # The official clients try a 429 again unless told not to, and next month is too far away.
        extra.append((b"x-should-retry", b"false"))
        extra += standing_headers(error.standing)
    elif row.status == UNAVAILABLE:
        extra.append((b"retry-after", b"%d" % RETRY_SOON_S))
    return row.status, extra, ENCODER.encode({"error": detail, "request_id": request_id})
