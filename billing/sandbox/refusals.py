"""The refusals of Stripe, as errors: status, ``type``, ``code`` and ``param`` of its error object.

``stored`` follows Stripe's rule for idempotency: an answer is kept for replay only once the endpoint began
to execute, so a request that fails the checks of its parameters may be corrected and sent again with the
same key (docs.stripe.com/api/idempotent_requests).
"""

from typing import Any, ClassVar

ORDINARY_KINDS = {"invalid_request_error", "api_error"}
NOT_FOUND = 404


class Refusal(Exception):
    """The request was refused.

    Not one of the product's own errors: these are Stripe's words, and they never leave the sandbox except
    as its answers. A subclass's docstring begins with its default message.
    """

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "invalid_request_error"
    stored: ClassVar[bool] = True
    should_retry: ClassVar[bool | None] = False
    """What ``stripe-should-retry`` says; ``None`` leaves the header out."""

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        stripe_code: str | None = None,
        status: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.message)
        self.param = param
        self.stripe_code = stripe_code
        self.http_status = status or self.status
        self.extra = extra or {}

    def body(self) -> dict[str, Any]:
        """Write Stripe's error object; fields that have no value are left out, as Stripe does."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.stripe_code:
            error["code"] = self.stripe_code
        if self.param:
            error["param"] = self.param
        return {"error": error | self.extra}

    def body_v2(self) -> dict[str, Any]:
        """Write v2's error object: always a ``code``, never a ``param``, a ``type`` only where it says more."""
        error: dict[str, Any] = {"code": self.stripe_code or self.kind, "message": self.message}
        if self.kind not in ORDINARY_KINDS:
            error["type"] = self.kind
        return {"error": error | self.extra}


class ParameterRefusal(Refusal):
    """A parameter is missing, unknown or malformed."""

    stored = False


class NoSuchObject(Refusal):
    """No such object."""

    def __init__(self, kind: str, identifier: str, *, param: str = "id", status: int = 400) -> None:
        super().__init__(
            f"No such {kind}: '{identifier}'", param=param, stripe_code="resource_missing", status=status
        )

    def body_v2(self) -> dict[str, Any]:
        """Write v2's error object, in which an object that the path names is ``not_found``."""
        body = super().body_v2()
        if self.http_status == NOT_FOUND:
            body["error"]["code"] = "not_found"
        return body


class Unauthenticated(Refusal):
    """You did not provide an API key."""

    status = 401
    stored = False


class CardDeclined(Refusal):
    """Your card was declined."""

    status = 402
    kind = "card_error"

    def __init__(self, reason: str = "generic_decline") -> None:
        super().__init__(stripe_code="card_declined", extra={"decline_code": reason})


class RateLimited(Refusal):
    """Too many requests made to the API too quickly."""

    status = 429
    stored = False
    should_retry = None

    def __init__(self, reason: str, stripe_code: str = "rate_limit") -> None:
        super().__init__(stripe_code=stripe_code)
        self.reason = reason


class KeyMismatch(Refusal):
    """Keys for idempotent requests can only be used with the same parameters they were first used with."""

    kind = "idempotency_error"
    stored = False


class KeyInUse(Refusal):
    """There is currently another in-progress request using this Idempotency-Key."""

    status = 409
    kind = "idempotency_error"
    stored = False
    should_retry = True

    def __init__(self) -> None:
        super().__init__(stripe_code="idempotency_key_in_use")


class ServerFault(Refusal):
    """An unexpected error occurred."""

    status = 500
    kind = "api_error"
    should_retry = None
