"""Who looks at a page, and how: language, theme, zone, session. Cookies are read here and nowhere else."""

from enum import StrEnum
from typing import Any

import msgspec

from admin.access.door import Caller
from admin.access.keyring import TOKEN_LENGTH_MAX
from admin.access.model import Language, Session
from admin.web.i18n import Translator, preferred, translator_of
from billing.subscriptions.model import Entitlement

YEAR_S = 365 * 24 * 3600
NOTICE_S = 60


class Theme(StrEnum):
    """Light, dark, or as the system is."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Zone(StrEnum):
    """Where the clock stands that moments are shown by: at the reader's, in Greenwich, or where the business is."""

    BROWSER = "browser"
    UTC = "utc"
    BUSINESS = "business"


class CookieName(StrEnum):
    """The cookies; with https they all are ``__Host-`` cookies, which no other host and no http page can set."""

    SESSION = "nusagate_session"
    BROWSER = "nusagate_browser"
    LANGUAGE = "nusagate_language"
    THEME = "nusagate_theme"
    ZONE = "nusagate_zone"
    NOTICE = "nusagate_notice"


class Visitor(msgspec.Struct, kw_only=True):
    """What is known of whoever sent a request.

    ``binding`` is what form tokens of this browser are bound to: its session's token, or its visitor's token.
    ``pending`` is a session that still waits for its second factor. ``standing`` is what the account of somebody who is
    inside is entitled to, as far as a subscription or a payment has decided it.
    """

    language: Language
    theme: Theme
    zone: Zone
    path: str
    caller: Caller
    binding: str
    form_token: str
    session: Session | None = None
    pending: Session | None = None
    standing: Entitlement | None = None
    notice: str | None = None
    cookies: dict[CookieName, str]

    @property
    def translator(self) -> Translator:
        """The translator into the visitor's language."""
        return translator_of(self.language)

    @property
    def before(self) -> Session | None:
        """The session that this browser has, open or waiting for its second factor."""
        return self.session or self.pending

    @property
    def inside(self) -> Session:
        """The session of somebody who is inside; routes that ask for it let nobody else through."""
        assert self.session is not None
        return self.session


def read_cookies(header: str | None, *, secure: bool) -> dict[CookieName, str]:
    """Read our cookies from a request, whatever stands beside them; what cannot be one of ours is not there.

    Others on the same host write what the standard library's parser gives up at, or takes long for. Ours need no quoting.
    """
    labels = {cookie_label(name, secure=secure): name for name in CookieName}
    found = {}
    for pair in (header or "").split(";"):
        label, _, value = pair.strip().partition("=")
        if label in labels and 0 < len(value) <= TOKEN_LENGTH_MAX:
            found[labels[label]] = value
    return found


def cookie_label(name: CookieName, *, secure: bool) -> str:
    """Return the name under which a browser keeps a cookie."""
    return f"__Host-{name}" if secure else name.value


def set_cookie(name: CookieName, value: str, *, secure: bool, max_age_s: int | None = YEAR_S) -> str:
    """Write a ``Set-Cookie``; an age of 0 removes it, ``None`` lets it live as long as the browser."""
    parts = [f"{cookie_label(name, secure=secure)}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    if secure:
        parts.append("Secure")
    return "; ".join(parts)


def language_of(cookies: dict[CookieName, str], session: Session | None, accept: str | None) -> Language:
    """Choose the language: the account's, the cookie's, or what the browser likes."""
    if session is not None and session.person.language is not None:
        return session.person.language
    kept = cookies.get(CookieName.LANGUAGE)
    return Language(kept) if kept in set(Language) else preferred(accept)


def theme_of(cookies: dict[CookieName, str]) -> Theme:
    """Choose the theme."""
    kept = cookies.get(CookieName.THEME)
    return Theme(kept) if kept in set(Theme) else Theme.SYSTEM


def zone_of(cookies: dict[CookieName, str]) -> Zone:
    """Choose the zone of moments."""
    kept = cookies.get(CookieName.ZONE)
    return Zone(kept) if kept in set(Zone) else Zone.BROWSER


def visitor_of(scope: Any) -> Visitor:
    """Return the visitor that admission has put into a request's scope."""
    visitor: Visitor = scope["state"]["visitor"]
    return visitor
