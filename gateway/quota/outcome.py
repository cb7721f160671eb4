"""From a decision to what the caller gets: a reservation, or the refusal that says which limit, by how much, until when."""

from gateway.clock import Month, day_of, month_end, month_of
from gateway.errors import NusagateError
from gateway.quota.model import (
    Decision,
    InsufficientQuota,
    PriceMissing,
    QuotaState,
    RateLimited,
    Reservation,
    ReserveRequest,
    Standing,
    scope_reset,
)

MONTH_SCOPES = frozenset({"month", "key_month"})


def reservation(request: ReserveRequest, decision: Decision, period: Month, book_id: str) -> Reservation:
    """Describe what was admitted."""
    return Reservation(
        request_id=request.request_id,
        granted_output_tokens=decision.granted_output,
        reserved_tokens=request.input_tokens + request.choices * decision.granted_output,
        admitted_at=decision.admitted_at,
        period=period,
        book_id=book_id,
        standing=_standing(request, decision),
    )


def refusal(request: ReserveRequest, decision: Decision) -> NusagateError:
    """Make the error that tells the client what refused the request."""
    scope = decision.refused_by
    assert scope is not None
    if scope == "price":
        return price_missing(request)
    if scope in MONTH_SCOPES:
        return InsufficientQuota(_quota_state(request, decision, scope), _standing(request, decision))
    limits = {
        "tokens_per_day": request.day_limit,
        "tokens_per_minute": request.tokens_per_minute,
        "requests_per_minute": request.requests_per_minute,
        "concurrency": request.concurrency,
    }
    return RateLimited(scope, limits[scope] or 0, decision.retry_after_us, _standing(request, decision))


def price_missing(request: ReserveRequest) -> PriceMissing:
    """Say that the model has no price in the account's currency."""
    return PriceMissing(
        f"The model {request.model!r} is not offered in {request.currency.upper()}.", param="model"
    )


def _standing(request: ReserveRequest, decision: Decision) -> Standing:
    return Standing(
        month_limit=request.month_limit,
        month_used=decision.month_used,
        month_held=decision.month_held,
        month_resets_at=month_end(month_of(decision.admitted_at)),
        requests_limit=request.requests_per_minute,
        requests_remaining=decision.requests_remaining,
        requests_reset_us=decision.requests_reset_us,
        tokens_limit=request.tokens_per_minute,
        tokens_remaining=decision.tokens_remaining,
        tokens_reset_us=decision.tokens_reset_us,
    )


def _quota_state(request: ReserveRequest, decision: Decision, scope: str) -> QuotaState:
    limit = (request.key_limit if scope == "key_month" else request.month_limit) or 0
    used, held = decision.scope_used, decision.scope_held
    period = month_of(decision.admitted_at)
    return QuotaState(
        limit=limit,
        used=used,
        held=held,
        remaining=max(0, limit - used - held),
        required=request.input_tokens + request.choices * request.output_min,
        resets_at=scope_reset(scope, period, day_of(decision.admitted_at)),
        period=period,
        scope=scope,
    )
