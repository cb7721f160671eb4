"""API keys: what is kept of them, and what a request with one may do."""

import ipaddress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

from gateway.accounts.model import AccountStatus
from gateway.clock import Month, month_of
from gateway.errors import InvalidValue, NusagateError
from gateway.plans.model import AccountLimits, Billing, Limit, OnDisconnect
from gateway.units import Currency

NAME_LENGTH_MAX = 100
SCOPES_MAX = 100
"""A key names at most this many models, and at most this many address ranges."""

CLOCKS_APART = timedelta(seconds=2)
"""The gateway's clock and the one that decides about the month are never further apart."""

SEVERAL = msgspec.Meta(min_length=1, max_length=SCOPES_MAX)
ModelName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoint(StrEnum):
    """The endpoints that serve tokens, as a key's scope and the ledger name them."""

    RESPONSES = "responses"
    CHAT_COMPLETIONS = "chat.completions"
    EMBEDDINGS = "embeddings"


class KeyStatus(StrEnum):
    """Whether a key works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyScopes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made with; ``None`` is no restriction. ``monthly_tokens`` caps this key alone."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LENGTH_MAX)] = "default"
    expires_at: datetime | None = None
    monthly_tokens: Limit = None
    models: Annotated[tuple[ModelName, ...], SEVERAL] | None = None
    endpoints: Annotated[tuple[Endpoint, ...], SEVERAL] | None = None
    ip_ranges: Annotated[tuple[str, ...], SEVERAL] | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as lists show it: everything but the secret."""

    key_id: UUID
    account_id: UUID
    prefix: str
    last4: str
    scopes: KeyScopes
    created_at: datetime
    revoked_at: datetime | None
    replaced_by: UUID | None
    last_used_at: datetime | None
    last_used_model: str | None

    def status(self, now: datetime) -> KeyStatus:
        """Tell whether the key works at a moment."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        if self.scopes.expires_at is not None and self.scopes.expires_at <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.ACTIVE


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made, the only time that its text is known."""

    key_id: UUID
    account_id: UUID
    text: str

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return f"NewKey({self.key_id})"


class SpendGuard(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account may still spend, in tokens at the highest price: a limit for one month, and one for any other.

    So a limit that follows from a month's spending can never hold in the next month, whoever is late.
    """

    period: Month
    period_tokens: int
    other_tokens: int

    def limit(self, now: datetime) -> int:
        """Return the limit of a month; the smaller one while two clocks may disagree about which month it is."""
        months = {month_of(now - CLOCKS_APART), month_of(now + CLOCKS_APART)}
        return min(self.period_tokens if month == self.period else self.other_tokens for month in months)


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that admission needs to know of a key, its account and its plan, from one row."""

    key_id: UUID
    name: str
    prefix: str
    last4: str
    created_at: datetime
    expires_at: datetime | None
    monthly_tokens: int | None
    models: frozenset[str] | None
    endpoints: frozenset[str] | None
    networks: tuple[Network, ...] | None
    account_id: UUID
    account_status: AccountStatus
    currency: Currency
    plan_id: str
    billing: Billing
    on_disconnect: OnDisconnect
    limits: AccountLimits
    guard: SpendGuard | None = None

    def month_limit(self, now: datetime) -> int | None:
        """Return how many tokens the account may use in the month; what it may spend limits those that are paid for."""
        return month_limit(self.limits, self.billing, self.guard, now)


def month_limit(
    limits: AccountLimits, billing: Billing, guard: SpendGuard | None, now: datetime
) -> int | None:
    """Return how many tokens an account may use in a month, by its limits and by what it may spend."""
    limit = limits.monthly_tokens
    if guard is None or billing is not Billing.METERED:
        return limit
    guarded = guard.limit(now)
    return guarded if limit is None else min(limit, guarded)


class MissingApiKey(NusagateError):
    """No API key was sent; put it into the header ``Authorization: Bearer nsk_live_…``."""

    code = "missing_api_key"


class InvalidApiKey(NusagateError):
    """The API key is not valid."""

    code = "invalid_api_key"


class KeyRefused(NusagateError):
    """This API key is known, and may not be used at the moment."""

    code = "invalid_api_key"

    def __init__(self, record: KeyRecord) -> None:
        super().__init__()
        self.record = record


class ExpiredApiKey(KeyRefused):
    """The API key has expired."""

    code = "expired_api_key"


class AccountSuspended(KeyRefused):
    """The account is suspended."""

    code = "account_suspended"


class PaymentRequired(KeyRefused):
    """A payment for this account failed; keys work again when it is paid."""

    code = "payment_required"


class ModelNotAllowed(NusagateError):
    """This API key may not use this model."""

    code = "model_not_allowed"


class EndpointNotAllowed(NusagateError):
    """This API key may not use this endpoint."""

    code = "endpoint_not_allowed"


class IpNotAllowed(NusagateError):
    """This API key may not be used from this address."""

    code = "ip_not_allowed"


class KeyNotFound(NusagateError):
    """There is no such key."""

    code = "key_not_found"


class KeyNotActive(NusagateError):
    """The key is revoked, expired or replaced already."""

    code = "key_not_active"


class TooManyKeys(NusagateError):
    """The account has as many keys as an account may have; revoke one that is not used."""

    code = "too_many_keys"


def check_standing(record: KeyRecord, now: datetime) -> None:
    """Refuse an expired key (``ExpiredApiKey``) and an account that may not be served."""
    if record.expires_at is not None and record.expires_at <= now:
        raise ExpiredApiKey(record)
    if record.account_status is AccountStatus.SUSPENDED:
        raise AccountSuspended(record)
    if record.account_status is AccountStatus.PAYMENT_REQUIRED:
        raise PaymentRequired(record)


def check_endpoint(record: KeyRecord, endpoint: Endpoint) -> None:
    """Refuse an endpoint outside the key's scope: ``EndpointNotAllowed``."""
    if record.endpoints is not None and endpoint not in record.endpoints:
        raise EndpointNotAllowed(f"This API key may not use the endpoint {endpoint}.")


def check_model(record: KeyRecord, model: str) -> None:
    """Refuse a model outside the key's scope: ``ModelNotAllowed``."""
    if record.models is not None and model not in record.models:
        raise ModelNotAllowed(param="model")


def check_ip(record: KeyRecord, ip_text: str) -> None:
    """Refuse an address outside the key's ranges, or one that cannot be read: ``IpNotAllowed``."""
    if record.networks is None:
        return
    try:
        address = ipaddress.ip_address(ip_text)
    except ValueError:
        raise IpNotAllowed from None
    # A dual-stack socket shows an IPv4 client as ::ffff:192.0.2.1.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not any(address in network for network in record.networks):
        raise IpNotAllowed


def check_scopes(scopes: KeyScopes, now: datetime) -> KeyScopes:
    """Return scopes with their address ranges written in full; ``InvalidValue`` names what no key can have."""
    try:
        scopes = msgspec.convert(msgspec.structs.asdict(scopes), KeyScopes)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"The key cannot be made like this: {error}.", param="key") from None
    if not scopes.name.isprintable():
        raise InvalidValue("A key's name has printable characters only.", param="name")
    if scopes.expires_at is not None and scopes.expires_at <= now:
        raise InvalidValue("A key must expire in the future.", param="expires_at")
    if scopes.ip_ranges is None:
        return scopes
    try:
        ranges = tuple(str(ipaddress.ip_network(text.strip())) for text in scopes.ip_ranges)
    except ValueError as error:
        raise InvalidValue(f"An address range is not valid: {error}.", param="ip_ranges") from None
    return msgspec.structs.replace(scopes, ip_ranges=ranges)
