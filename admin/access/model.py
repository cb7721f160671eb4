"""People, their sessions, and every reason for which somebody is not let in."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.errors import NusagateError


class Language(StrEnum):
    """The languages that the product speaks."""

    INDONESIAN = "id"
    ENGLISH = "en"


class Stage(StrEnum):
    """How far somebody is inside: only ``open`` sees anything."""

    SECOND_FACTOR = "second_factor"
    OPEN = "open"


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may enter the portal, and the account that is theirs."""

    person_id: UUID
    account_id: UUID
    email: str
    language: Language | None
    created_at: datetime
    password_changed_at: datetime
    second_factor_since: datetime | None


class Locks(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is recognised by; never shown."""

    password_hash: str
    totp_nonce: bytes | None
    totp_version: int | None
    totp_last_step: int
    closed: bool

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return "Locks(…)"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that somebody has logged in with."""

    session_id: UUID
    person: Person
    stage: Stage
    network: str
    agent: str
    created_at: datetime
    seen_at: datetime
    confirmed_at: datetime


class SignUp(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asked for an account and has not followed the link of the mail yet."""

    sign_up_id: UUID
    browser_digest: bytes
    email: str
    password_hash: str
    language: Language
    mailed_at: datetime
    mails: int
    expires_at: datetime
    used_at: datetime | None

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return f"SignUp({self.sign_up_id})"


class AccessError(NusagateError):
    """This is not possible."""

    code = "access_refused"

    def __init__(self, message: str | None = None, *, param: str | None = None, **values: str | int) -> None:
        """Keep the sentence and its values apart, so that a page can say it in its reader's language."""
        super().__init__(message, param=param)
        self.template = self.message
        self.values = values
        self.message = self.template % values if values else self.template
        self.args = (self.message,)


class PasswordRefused(AccessError):
    """Choose another password."""

    code = "password_refused"


class AddressRefused(AccessError):
    """Use another e-mail address."""

    code = "address_refused"


class TooManySignUps(AccessError):
    """Too many accounts were asked for from your network today. Try again tomorrow."""

    code = "too_many_sign_ups"


class SignUpsPaused(AccessError):
    """The free plan is full at the moment. Please come back in a few days."""

    code = "sign_ups_paused"


class TooBusy(AccessError):
    """Too many people are logging in at this moment. Try again in a few seconds."""

    code = "too_busy"


class LinkRefused(AccessError):
    """This link has been used already, or its time is over."""

    code = "link_refused"


class PasswordNeeded(AccessError):
    """Enter the password that you chose when you signed up."""

    code = "password_needed"


class TooSoon(AccessError):
    """Please wait %(wait_s)s seconds, then try again."""

    code = "too_soon"

    def __init__(self, *, wait_s: int) -> None:
        super().__init__(wait_s=wait_s)
        self.wait_s = wait_s


class LoginRefused(AccessError):
    """The e-mail address or the password is not right."""

    code = "login_refused"


class CodeRefused(AccessError):
    """The code is not right, or it was used already."""

    code = "code_refused"


class SecondFactorState(AccessError):
    """The second factor is not in the state that this needs."""

    code = "second_factor_state"


class PlanRunning(AccessError):
    """Your plan is still paid for. End it under Billing first, then close the account."""

    code = "plan_running"


class LoginNeeded(AccessError):
    """Log in to see this page."""

    code = "login_needed"


class ConfirmationNeeded(AccessError):
    """Confirm that it is you."""

    code = "confirmation_needed"


class ForgedRequest(AccessError):
    """This form was not sent from its own page, or it is too old. Open the page again and repeat it there."""

    code = "forged_request"
