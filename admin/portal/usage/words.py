"""How endings, ways of counting and reasons of refusals are called and explained; closed sets, each said once."""

from collections.abc import Mapping

import msgspec

from admin.web.i18n import mark
from gateway.http.error_table import ERRORS
from gateway.ledger.model import EndReason, UsageSource
from gateway.metering.usage import Flaw


class Said(msgspec.Struct, frozen=True):
    """A name and the sentence that explains it."""

    name: str
    explanation: str


ENDINGS: Mapping[EndReason, Said] = {
    EndReason.COMPLETED: Said(mark("completed"), mark("The answer is whole.")),
    EndReason.INCOMPLETE: Said(
        mark("cut at its limit"), mark("The answer was cut at the most tokens that it could have.")
    ),
    EndReason.UPSTREAM_ERROR: Said(
        mark("failed at the model"), mark("The model refused, failed, or sent something unreadable.")
    ),
    EndReason.UPSTREAM_RESET: Said(
        mark("model broke off"), mark("The connection to the model broke before the answer was whole.")
    ),
    EndReason.UPSTREAM_TIMEOUT: Said(
        mark("model was too slow"), mark("The model was silent too long, or the whole request took too long.")
    ),
    EndReason.CLIENT_GONE_DRAINED: Said(
        mark("client left, read to its end"),
        mark("Your program left; the answer was read to its end and is counted as if it had stayed."),
    ),
    EndReason.CLIENT_GONE_CANCELLED: Said(
        mark("client left, cancelled"), mark("Your program left, and the model was stopped.")
    ),
    EndReason.DRAINED_AT_SHUTDOWN: Said(
        mark("ended at a restart"), mark("The gateway was restarted before the answer was whole.")
    ),
    EndReason.GATEWAY_CRASH: Said(
        mark("recovered after a crash"),
        mark("The gateway failed during the request; it was closed from what had been noted by then."),
    ),
}

SOURCES: Mapping[UsageSource, Said] = {
    UsageSource.UPSTREAM: Said(
        mark("by the model"), mark("The model sent its usage with the answer. It is taken to the token.")
    ),
    UsageSource.PARTIAL: Said(
        mark("by the model, until it was cut"),
        mark("The request was cut short. The last usage that the model had sent by then is what counts."),
    ),
    UsageSource.ESTIMATED: Said(
        mark("estimated by us"),
        mark(
            "The model sent no usage that could be taken. The input and the text that was delivered are estimated from "
            "their length."
        ),
    ),
}

FLAWS: Mapping[str, str] = {
    Flaw.MISSING: mark("The model sent no usage."),
    Flaw.NULL: mark("The usage that the model sent was empty."),
    Flaw.NOT_AN_OBJECT: mark("The usage that the model sent could not be read."),
    Flaw.NOT_A_NUMBER: mark("A count of the model's usage was no number."),
    Flaw.NEGATIVE: mark("A count of the model's usage was below zero."),
    Flaw.FRACTIONAL: mark("A count of the model's usage was a fraction."),
    Flaw.TOO_LARGE: mark("A count of the model's usage was impossibly large."),
    Flaw.INCONSISTENT: mark("The counts of the model's usage contradict each other; its totals are taken."),
    Flaw.DETAILS_MISSING: mark("The model did not divide its totals; all is counted as plain text."),
}
"""What is said of a usage block; that a sweeper closed a request, which is noted in the same place, is its ending."""

LIMITS: Mapping[str, tuple[str, Said]] = {
    "month": (
        "insufficient_quota",
        Said(mark("Tokens a month"), mark("Wait for the reset, or choose a larger plan.")),
    ),
    "key_month": (
        "insufficient_quota",
        Said(mark("Monthly cap of a key"), mark("Raise the cap of the key, or wait for the reset.")),
    ),
    "tokens_per_day": (
        "rate_limit_exceeded",
        Said(mark("Tokens a day"), mark("Wait until midnight UTC, or spread the work over more days.")),
    ),
    "requests_per_minute": (
        "rate_limit_exceeded",
        Said(mark("Requests a minute"), mark("Send fewer at a time, and wait as long as Retry-After says.")),
    ),
    "tokens_per_minute": (
        "rate_limit_exceeded",
        Said(mark("Tokens a minute"), mark("Ask for fewer tokens, or wait as long as Retry-After says.")),
    ),
    "concurrency": (
        "rate_limit_exceeded",
        Said(mark("Requests at once"), mark("Begin the next request when one has ended.")),
    ),
}
"""The limits that refuse, with the code of the refusal, and what helps."""

CODES: Mapping[str, Said] = {
    "payment_required": Said(mark("Payment is due"), mark("Keys work again when it is paid.")),
    "account_suspended": Said(mark("Account is suspended"), mark("Ask the operator why.")),
    "expired_api_key": Said(mark("Key has expired"), mark("Make a new key.")),
    "model_not_allowed": Said(
        mark("Model not allowed for the key"), mark("Use another key, or another model.")
    ),
    "endpoint_not_allowed": Said(
        mark("Endpoint not allowed for the key"), mark("Use another key, or another endpoint.")
    ),
    "ip_not_allowed": Said(
        mark("Address not allowed for the key"), mark("Was it you? If not, rotate the key now.")
    ),
    "model_not_found": Said(mark("Model not offered"), mark("Take a model from the list of models.")),
    "idempotency_conflict": Said(
        mark("Idempotency-Key used before"), mark("Give every new request a key of its own.")
    ),
    "request_in_progress": Said(
        mark("Same request still in progress"), mark("Wait for its answer before you repeat it.")
    ),
    "request_too_large": Said(mark("Request too large"), mark("Send less at a time.")),
    "overloaded": Said(mark("Gateway was full"), mark("Repeat it after a pause.")),
    "limits_unavailable": Said(mark("Limits could not be checked"), mark("Repeat it after a pause.")),
    "internal_error": Said(mark("A fault of ours"), mark("Repeat it after a pause.")),
}
WRONG_REQUEST = Said(mark("Request was not valid"), mark("The answer's message names what is wrong."))
UNKNOWN_STATUS = 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A reason of refusals in words, with the status and code that clients got."""

    status: int
    code: str
    limit: str | None
    said: Said
    requests: int


def refusal_of(reason: str, requests: int) -> Refusal:
    """Say a reason in words."""
    code, said = LIMITS.get(reason, (reason, CODES.get(reason, WRONG_REQUEST)))
    row = ERRORS.get(code)
    return Refusal(
        status=UNKNOWN_STATUS if row is None else row.status,
        code=code,
        limit=reason if reason in LIMITS else None,
        said=said,
        requests=requests,
    )
