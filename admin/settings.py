"""What the portal and the console are told from outside, beside what every process is told.

The limits are fields of ``PortalLimits`` and can be set as ``NUSAGATE_`` and their name in capitals.
"""

import zoneinfo
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import msgspec

from gateway.errors import ConfigurationError
from gateway.runtime.settings import (
    Settings,
    load_settings,
    parse_secrets,
    read_limits,
    read_optional,
    read_required,
    read_url,
)

DEFAULT_TIME_ZONE = "Asia/Jakarta"
MAIL_PAGE = "page:"
SMTP_SCHEMES = ("smtp", "smtps")
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class PortalLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on everything that visitors can make grow, in the unit that its name ends with."""

    max_form_bytes: int = 64 * 2**10
    form_timeout_s: int = 10
    payment_timeout_s: int = 10
    charges_timeout_s: int = 2
    session_idle_hours: int = 7 * 24
    session_hours: int = 30 * 24
    confirmed_minutes: int = 15
    link_hours: int = 24
    reset_minutes: int = 30
    resend_after_s: int = 60
    mails_per_sign_up: int = 5
    resets_per_day: int = 5
    sign_ups_per_network_daily: int = 20
    sign_ups_per_mailbox_monthly: int = 3
    accounts_per_mailbox: int = 1
    kept_days: int = 35
    playground_timeout_s: int = 120
    playground_answer_bytes: int = 4 * 2**20
    playground_requests: int = 256


class PortalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the portal's process is told. ``smtp_url`` is ``None`` where mail goes to a page only.

    ``gateway_url`` is where the portal itself reaches the gateway, which may be another address than the public one.

    ``free_budget_tokens`` is the most that all free accounts together may be able to use in a month; sign-ups pause
    when it is given away. ``None`` is no budget.
    """

    base: Settings
    limits: PortalLimits
    gateway_url: str
    session_secrets: Mapping[int, bytes]
    smtp_url: str | None
    time_zone: zoneinfo.ZoneInfo
    free_budget_tokens: int | None

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return "PortalSettings(…)"

    @property
    def secure(self) -> bool:
        """Whether visitors come over https, so that cookies can insist on it."""
        return self.base.public_url.startswith("https://")

    @property
    def mail_on_page(self) -> bool:
        """Whether this is ``nusagate dev``, where mail is read on a page."""
        return self.smtp_url is None


def load_portal_settings(environ: Mapping[str, str]) -> PortalSettings:
    """Read and check all settings; ``ConfigurationError`` names the variable that is missing or wrong."""
    base = load_settings(environ)
    public = urlsplit(base.public_url)
    secrets = parse_secrets("NUSAGATE_SESSION_SECRET", read_required(environ, "NUSAGATE_SESSION_SECRET"))
    if set(secrets.values()) & set(base.peppers.values()):
        raise ConfigurationError(
            "NUSAGATE_SESSION_SECRET is a pepper of NUSAGATE_KEY_PEPPER too; one secret, one use"
        )
    return PortalSettings(
        base=base,
        limits=read_limits(environ, PortalLimits),
        gateway_url=read_url(environ, "NUSAGATE_GATEWAY_URL", base.api_url),
        session_secrets=secrets,
        smtp_url=read_smtp_url(environ, public),
        time_zone=_time_zone(read_optional(environ, "NUSAGATE_TIME_ZONE") or DEFAULT_TIME_ZONE),
        free_budget_tokens=_budget(read_optional(environ, "NUSAGATE_FREE_BUDGET_TOKENS")),
    )


def read_smtp_url(environ: Mapping[str, str], public: SplitResult) -> str | None:
    """Read where mail is sent; ``page:`` keeps it for a page, which only a portal on loopback may do."""
    url = read_required(environ, "NUSAGATE_SMTP_URL")
    if url == MAIL_PAGE:
        if public.hostname not in LOOPBACK_HOSTS:
            raise ConfigurationError(
                "NUSAGATE_SMTP_URL is 'page:', which shows all mail to everybody; it is for one machine only"
            )
        return None
    if not _is_smtp(url):
        raise ConfigurationError("NUSAGATE_SMTP_URL must look like smtp://user:password@host:587")
    return url


def _is_smtp(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in SMTP_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # A password whose signs are not escaped; the text of this error may show parts of it.
        return False


def _time_zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(
            f"NUSAGATE_TIME_ZONE is not a time zone like Asia/Jakarta: {name!r}"
        ) from error


def _budget(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"NUSAGATE_FREE_BUDGET_TOKENS must be a whole number, not {text!r}")
    return int(text)
