"""What a plan is: a row that an operator writes, never code."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec

from gateway.errors import NusagateError
from gateway.units import Currency

LIMIT_MAX = 10**15
"""No limit is larger, so that sums of them stay exact in 64 bits and in JavaScript."""

PER_MINUTE_MAX = 60_000_000
"""No minute limit is larger: it is one unit a microsecond, the grain of the clock."""

Limit = Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MAX)] | None
"""A limit in its own unit; ``None`` is no limit."""

MinuteLimit = Annotated[int, msgspec.Meta(ge=0, le=PER_MINUTE_MAX)] | None
"""A limit of units a minute; ``None`` is no limit."""


class Billing(StrEnum):
    """How an account on the plan pays."""

    FREE = "free"
    FLAT = "flat"
    METERED = "metered"


class OnDisconnect(StrEnum):
    """What happens to the answer of a client that left: read to its end, or cancelled where that is dear."""

    DRAIN = "drain"
    CANCEL = "cancel"


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account may use: tokens a calendar month and day, units a minute, requests at once."""

    monthly_tokens: Limit = None
    daily_tokens: Limit = None
    requests_per_minute: MinuteLimit = None
    tokens_per_minute: MinuteLimit = None
    concurrency: Limit = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan: how it is billed, what it costs a month, and the limits of every account on it."""

    plan_id: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    billing: Billing
    limits: AccountLimits
    on_disconnect: OnDisconnect
    position: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    monthly_price_micro: Mapping[Currency, Annotated[int, msgspec.Meta(ge=0, le=LIMIT_MAX)]] = {}


class PlanNotFound(NusagateError):
    """No plan has this id."""

    code = "plan_not_found"
