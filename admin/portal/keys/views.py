"""What the pages of keys show, the forms that they take, and how a form becomes a key's scopes."""

import ipaddress
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from admin.portal.amounts import FormRefused, tokens_of
from admin.portal.snippets import Snippet
from admin.web.i18n import mark
from admin.web.pages import Problem
from gateway.keys.model import NAME_LENGTH_MAX, ApiKey, KeyScopes, KeyStatus


class Expiry(StrEnum):
    """When a new key ends."""

    NEVER = "never"
    DAYS_30 = "30d"
    DAYS_90 = "90d"
    YEAR = "365d"
    DATE = "date"


EXPIRIES = {
    Expiry.NEVER: mark("Never"),
    Expiry.DAYS_30: mark("In 30 days"),
    Expiry.DAYS_90: mark("In 90 days"),
    Expiry.YEAR: mark("In a year"),
    Expiry.DATE: mark("On a day"),
}
LENGTHS = {
    Expiry.DAYS_30: timedelta(days=30),
    Expiry.DAYS_90: timedelta(days=90),
    Expiry.YEAR: timedelta(days=365),
}


class Grace(StrEnum):
    """How long a rotated key goes on working."""

    NOW = "0"
    MINUTES_15 = "15m"
    HOUR = "1h"
    DAY = "24h"


GRACES = {
    Grace.NOW: mark("Not at all: it stops now"),
    Grace.MINUTES_15: mark("15 minutes"),
    Grace.HOUR: mark("1 hour"),
    Grace.DAY: mark("24 hours"),
}
GRACE_LENGTHS = {
    Grace.NOW: timedelta(0),
    Grace.MINUTES_15: timedelta(minutes=15),
    Grace.HOUR: timedelta(hours=1),
    Grace.DAY: timedelta(hours=24),
}


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key with what it has used this month; the playground's own renews itself and is not rotated."""

    key: ApiKey
    status: KeyStatus
    used_tokens: int
    replaced: bool
    of_playground: bool


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of an account: those that work, and those that do no more."""

    working: list[KeyRow]
    ended: list[KeyRow]


class NewKeyForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key is to be made with, as it was typed."""

    name: str = ""
    expiry: str = Expiry.NEVER.value
    expires_on: str = ""
    monthly_tokens: str = ""
    models: tuple[str, ...] = ()
    ip_ranges: str = ""


class NewKeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """The form, and the models to choose from."""

    form: NewKeyForm
    models: list[str]
    expiries: dict[Expiry, str]
    today: str
    problem: Problem | None = None


class MadePage(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made, the only time that it is shown; ``old`` is the one that it replaces."""

    text: str
    name: str
    snippets: list[Snippet]
    old: ApiKey | None = None
    old_ends_at: datetime | None = None


class RotateForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old key goes on working."""

    grace: str = Grace.HOUR.value


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """One key, to be rotated or revoked."""

    key_id: UUID
    row: KeyRow
    graces: dict[Grace, str]
    problem: Problem | None = None


def scopes_of(form: NewKeyForm, models: list[str], now: datetime) -> KeyScopes:
    """Read a form; ``FormRefused`` names the field that cannot be right."""
    name = form.name.strip()
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise FormRefused(
            "Give the key a name of up to %(longest)s characters.", param="name", longest=NAME_LENGTH_MAX
        )
    if not set(form.models) <= set(models):
        raise FormRefused("This model is not offered.", param="models")
    return KeyScopes(
        name=name,
        expires_at=_expiry(form, now),
        monthly_tokens=tokens_of(form.monthly_tokens, least=1, param="monthly_tokens"),
        models=tuple(form.models) or None,
        ip_ranges=_ranges(form.ip_ranges),
    )


def grace_of(form: RotateForm) -> timedelta:
    """Read how long the old key goes on working; ``FormRefused``."""
    if form.grace not in set(Grace):
        raise FormRefused("Choose how long the old key goes on working.", param="grace")
    return GRACE_LENGTHS[Grace(form.grace)]


def _expiry(form: NewKeyForm, now: datetime) -> datetime | None:
    if form.expiry not in set(Expiry):
        raise FormRefused("Choose when the key ends.", param="expiry")
    expiry = Expiry(form.expiry)
    if expiry is Expiry.NEVER:
        return None
    if expiry is not Expiry.DATE:
        return now + LENGTHS[expiry]
    try:
        day = datetime.strptime(form.expires_on, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise FormRefused("Write the day as 2026-12-31.", param="expires_on") from None
    ends_at = datetime.combine(day, time(), tzinfo=UTC) + timedelta(days=1)
    if ends_at <= now:
        raise FormRefused("This day is over already.", param="expires_on")
    return ends_at


def _ranges(text: str) -> tuple[str, ...] | None:
    found = text.replace(",", " ").split()
    for part in found:
        try:
            ipaddress.ip_network(part)
        except ValueError:
            raise FormRefused(
                "%(range)s is not an address range like 203.0.113.0/24.", param="ip_ranges", range=part[:50]
            ) from None
    return tuple(found) or None
