"""Every error code of the API in one table: its status, its type, why it happens and whether to try again.

The answers are made from it, and so is the documentation's page of errors.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class ErrorRow(msgspec.Struct, frozen=True):
    """One code as clients meet it; ``retry`` says what a program should do."""

    status: int
    type: str
    cause: str
    retry: str


NO_RETRY = "No; change the request."
AFTER_PAUSE = "Yes, after a pause (see Retry-After where it is sent)."
INVALID = "invalid_request_error"
AUTHENTICATION = "authentication_error"
PERMISSION = "permission_error"
NOT_FOUND = "not_found_error"
API = "api_error"

ERRORS: Mapping[str, ErrorRow] = MappingProxyType(
    {
        "invalid_request_error": ErrorRow(400, INVALID, "The model refused the request as it is.", NO_RETRY),
        "invalid_json": ErrorRow(400, INVALID, "The body is not valid JSON, or not a JSON object.", NO_RETRY),
        "missing_required_parameter": ErrorRow(
            400, INVALID, "A required field is missing; param names it.", NO_RETRY
        ),
        "invalid_value": ErrorRow(
            400, INVALID, "A field has a value it cannot have; param names it.", NO_RETRY
        ),
        "unknown_parameter": ErrorRow(400, INVALID, "A field is not known; param names it.", NO_RETRY),
        "missing_api_key": ErrorRow(401, AUTHENTICATION, "No API key was sent.", NO_RETRY),
        "invalid_api_key": ErrorRow(
            401, AUTHENTICATION, "The API key is malformed, unknown or revoked.", NO_RETRY
        ),
        "expired_api_key": ErrorRow(401, AUTHENTICATION, "The API key is past its expiry.", NO_RETRY),
        "payment_required": ErrorRow(
            402,
            "payment_required",
            "A payment of the plan failed and its grace is over.",
            "After the payment.",
        ),
        "account_suspended": ErrorRow(403, PERMISSION, "The operator suspended the account.", NO_RETRY),
        "model_not_allowed": ErrorRow(403, PERMISSION, "The key is not allowed to use this model.", NO_RETRY),
        "endpoint_not_allowed": ErrorRow(
            403, PERMISSION, "The key is not allowed to use this endpoint.", NO_RETRY
        ),
        "ip_not_allowed": ErrorRow(403, PERMISSION, "The key is not allowed from this address.", NO_RETRY),
        "model_not_found": ErrorRow(
            404, NOT_FOUND, "The model does not exist, or is not offered in the account's currency.", NO_RETRY
        ),
        "response_not_found": ErrorRow(
            404, NOT_FOUND, "No such response is stored for this account.", NO_RETRY
        ),
        "not_found": ErrorRow(404, NOT_FOUND, "There is nothing at this address and method.", NO_RETRY),
        "idempotency_conflict": ErrorRow(
            409,
            INVALID,
            "The Idempotency-Key was used for another request, or its answer was not kept.",
            NO_RETRY,
        ),
        "request_in_progress": ErrorRow(
            409, INVALID, "The request with this Idempotency-Key is still being served.", AFTER_PAUSE
        ),
        "request_too_large": ErrorRow(
            413, INVALID, "The body or the headers are larger than allowed.", NO_RETRY
        ),
        "rate_limit_exceeded": ErrorRow(
            429,
            "rate_limit_error",
            "A limit of minutes, of the day or of requests at once is reached.",
            AFTER_PAUSE,
        ),
        "insufficient_quota": ErrorRow(
            429,
            "insufficient_quota",
            "The monthly limit of the account or key is reached.",
            "Not before resets_at.",
        ),
        "internal_error": ErrorRow(500, API, "Something went wrong in the gateway.", AFTER_PAUSE),
        "upstream_error": ErrorRow(
            502, API, "The model failed, or its answer could not be read.", AFTER_PAUSE
        ),
        "upstream_unavailable": ErrorRow(503, API, "The model cannot be reached.", AFTER_PAUSE),
        "limits_unavailable": ErrorRow(
            503, API, "The limits cannot be checked; nothing was sent.", AFTER_PAUSE
        ),
        "overloaded": ErrorRow(503, API, "The gateway serves as many requests as it can.", AFTER_PAUSE),
        "upstream_timeout": ErrorRow(504, API, "The model did not answer in time.", AFTER_PAUSE),
    }
)
