"""Who an account is and what it may use: its plan's limits, with what was set for it alone put over them."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

import msgspec

from gateway.errors import InvalidValue, NusagateError
from gateway.plans.model import AccountLimits
from gateway.units import Currency

EMAIL_LENGTH_MAX = 254
EMAIL = re.compile(r"""[^\s"(),:;<>?@\[\\\]]+@(?:[\w-]+\.)*[\w-]+""")
"""One mailbox in its plain form: with what else a header of a mail allows, one text could name several, or the same mailbox
in any number of ways."""


class AccountStatus(StrEnum):
    """Whether an account's keys work."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    PAYMENT_REQUIRED = "payment_required"


class LimitName(StrEnum):
    """The limits that can be set for one account; each is a field of ``AccountLimits``."""

    MONTHLY_TOKENS = "monthly_tokens"
    DAILY_TOKENS = "daily_tokens"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENCY = "concurrency"


Overrides: TypeAlias = Mapping[LimitName, int | None]
"""What was set for one account: a number is that limit, ``None`` is no limit, absent is the plan's."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account, with the limits that are in force for it."""

    account_id: UUID
    email: str
    plan_id: str
    currency: Currency
    status: AccountStatus
    overrides: Overrides
    limits: AccountLimits
    created_at: datetime


class AccountNotFound(NusagateError):
    """There is no such account."""

    code = "account_not_found"


class EmailTaken(NusagateError):
    """An account with this e-mail address exists already."""

    code = "email_taken"


def normalise_email(text: str) -> str:
    """Write an address as accounts keep it, trimmed and in lower case; ``InvalidValue`` if it cannot be one.

    Wide letters and the like become plain ones, as they do on a mail's way.
    """
    email = text.strip()
    if len(email) <= EMAIL_LENGTH_MAX:
        email = unicodedata.normalize("NFKC", email).lower()
    if len(email) > EMAIL_LENGTH_MAX:
        raise InvalidValue(f"An e-mail address has at most {EMAIL_LENGTH_MAX} characters.", param="email")
    if not EMAIL.fullmatch(email) or not email.isprintable():
        raise InvalidValue(f"{text!r} is not an e-mail address.", param="email")
    return email


def effective_limits(plan: AccountLimits, overrides: Overrides) -> AccountLimits:
    """Put what was set for an account over the limits of its plan; ``InvalidValue`` if a limit is out of range."""
    if not overrides:
        return plan
    own = {name.value: limit for name, limit in overrides.items()}
    try:
        return msgspec.convert(msgspec.structs.asdict(plan) | own, AccountLimits)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"A limit is out of range: {error}.", param="limits") from error
