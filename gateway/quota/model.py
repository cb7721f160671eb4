"""What may be asked of the limits, and what they answer; the rule itself, for both engines to agree with."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.clock import Day, Month, day_end, format_utc, month_end, month_of, month_start
from gateway.errors import NusagateError
from gateway.units import Tokens, ceil_div

MICROSECONDS_PER_SECOND = 1_000_000
RETRY_AFTER_MAX_S = 60
SECONDS_PER_HOUR = 3_600
OUTPUT_TOKENS_MIN = 16
"""Some upstreams refuse a smaller output limit, so admitting less would only fail later."""


class Engine(StrEnum):
    """Where the limits are decided at the moment."""

    REDIS = "redis"
    POSTGRES = "postgres"


class ReserveRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that wants to be admitted, with the limits that are in force for it; ``None`` is no limit.

    ``output_tokens`` and ``output_min`` are for each of ``choices`` answers: the most that is wanted, and
    the least that is worth sending.
    """

    request_id: UUID
    account_id: UUID
    key_id: UUID
    model: str
    endpoint: str
    stream: bool
    end_user: str | None = None
    plan_id: str
    billable: bool
    currency: str
    input_tokens: int
    output_tokens: int
    output_min: int
    choices: int
    deadline_s: int
    month_limit: int | None = None
    day_limit: int | None = None
    key_limit: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the limits say of one request; the same from every engine.

    ``granted_output`` is for each answer. ``scope_used`` and ``scope_held`` belong to the limit that refused it, to the
    account's month where none did. What remains of a minute limit is ``None`` where there is none.
    """

    refused_by: str | None
    granted_output: int
    admitted_at: datetime
    month_used: int
    month_held: int
    scope_used: int
    scope_held: int
    retry_after_us: int
    requests_remaining: int | None
    requests_reset_us: int
    tokens_remaining: int | None
    tokens_reset_us: int


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that Redis admitted, on its way into Postgres; ``fence`` names what Redis knew when it did."""

    request: ReserveRequest
    granted_output: int
    admitted_at: datetime
    fence: int


class Recording(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of an admission in Postgres; a request that was known before keeps its first terms.

    ``outcome`` is ``recorded``, ``repeated`` (known and open), ``ended`` (known and closed), ``price`` (the model has no
    price) or ``stale``: Redis did not know everything, so nothing was written.
    """

    outcome: str
    granted_output: int
    admitted_at: datetime
    period: Month
    book_id: str | None


class Counter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account or a key has used and holds in a month or a day."""

    subject_id: UUID
    period: str
    used_tokens: int
    held_tokens: int


class OpenHold(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A request in flight, as its end needs to know it."""

    request_id: UUID
    key_id: UUID
    period: Month
    day: Day
    granted_output: int
    reserved_tokens: int
    admitted_at: datetime
    tokens_per_minute: int | None


class AccountSnapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that an account's limits follow from, as of one moment, under a fence of its own."""

    account_id: UUID
    fence: int
    requests_tat_us: int
    tokens_tat_us: int
    counters: list[Counter]
    holds: list[OpenHold]


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted request: what it may write, and when and at which prices it was admitted."""

    request_id: UUID
    granted_output_tokens: int
    reserved_tokens: int
    admitted_at: datetime
    period: Month
    book_id: str
    standing: "Standing"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account stands after an admission or a refusal, for the rate-limit headers."""

    month_limit: int | None
    month_used: int
    month_held: int
    month_resets_at: datetime
    requests_limit: int | None
    requests_remaining: int | None
    requests_reset_us: int
    tokens_limit: int | None
    tokens_remaining: int | None
    tokens_reset_us: int


class QuotaState(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that refused a request, as the body of the 429 shows it."""

    limit: int
    used: int
    held: int
    remaining: int
    required: int
    resets_at: str
    period: str
    scope: str


class InsufficientQuota(NusagateError):
    """The monthly token limit is reached."""

    code = "insufficient_quota"

    def __init__(self, quota: QuotaState, standing: Standing) -> None:
        whose = "This API key's" if quota.scope == "key_month" else "The account's"
        super().__init__(
            f"{whose} monthly limit of {quota.limit:,} tokens leaves {quota.remaining:,} "
            f"({quota.used:,} used, {quota.held:,} held by requests in progress); this request needs at least "
            f"{quota.required:,}. The limit resets at {quota.resets_at}."
        )
        self.quota = quota
        self.standing = standing


class RateLimited(NusagateError):
    """Too many requests or tokens in a short time."""

    code = "rate_limit_exceeded"

    def __init__(self, limit: str, value: int, retry_after_us: int, standing: Standing) -> None:
        self.limit = limit
        self.retry_after_s = max(1, min(RETRY_AFTER_MAX_S, ceil_div(retry_after_us, MICROSECONDS_PER_SECOND)))
        self.standing = standing
        super().__init__(
            f"The limit {limit} of {value:,} is reached; try again in {self.retry_after_s} s, "
            "or ask for fewer tokens if the limit counts tokens."
        )


class PriceMissing(NusagateError):
    """The model is not offered in this account's currency."""

    code = "model_not_found"


class QuotaView(msgspec.Struct, frozen=True, kw_only=True):
    """An account's month, as ``quota show`` and the API tell it."""

    period: str
    limit: int | None
    used: int
    held: int
    remaining: int | None
    resets_at: str
    engine: Engine


def output_wanted(asked: int | None, model_max: int) -> Tokens:
    """Bound the output of one answer: what the client asked for, never more than the model can write."""
    return Tokens(model_max if asked is None else min(asked, model_max))


def output_least(asked: int | None) -> Tokens:
    """Say how much output must be left for a request to be worth sending."""
    return Tokens(OUTPUT_TOKENS_MIN if asked is None else min(OUTPUT_TOKENS_MIN, asked))


def view(period: Month, limit: int | None, used: int, held: int, engine: Engine) -> QuotaView:
    """Show a month; what remains is never negative, even after an overshoot."""
    return QuotaView(
        period=period,
        limit=limit,
        used=used,
        held=held,
        remaining=None if limit is None else max(0, limit - used - held),
        resets_at=format_utc(month_end(period)),
        engine=engine,
    )


def scope_reset(scope: str, period: Month, day: Day) -> str:
    """Say when the limit of a scope resets."""
    return format_utc(day_end(day) if scope == "tokens_per_day" else month_end(period))


def forecast(used: int, now: datetime) -> Tokens:
    """Continue the month at its average pace so far; the first hour of a month is too short to judge by."""
    month = month_of(now)
    start, end = month_start(month), month_end(month)
    elapsed_s = max(int((now - start).total_seconds()), SECONDS_PER_HOUR)
    return Tokens(used * int((end - start).total_seconds()) // elapsed_s)
