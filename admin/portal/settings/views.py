"""What the pages of settings show, and the forms that they take."""

from uuid import UUID

import msgspec

from admin.access.model import Person, Session
from admin.web.pages import Problem
from gateway.accounts.model import Account


class SettingsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The person, their account, and the browsers that they are inside with."""

    person: Person
    account: Account
    plan_name: str
    sessions: list[Session]
    current: UUID
    recovery_codes_left: int
    business_zone: str
    problem: Problem | None = None


class PasswordForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password that is, and the one that shall be."""

    current: str = ""
    password: str = ""


class SecondFactorPage(msgspec.Struct, frozen=True, kw_only=True):
    """A secret for the app, as a picture and as text."""

    picture: str
    secret: str
    problem: Problem | None = None


class CodeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code of the app."""

    code: str = ""


class SwitchOffForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password, which will open the account alone."""

    password: str = ""


class SwitchOffPage(msgspec.Struct, frozen=True, kw_only=True):
    """What turning the second factor off means."""

    problem: Problem | None = None


class RecoveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Recovery codes, shown this once."""

    codes: list[str]


class CloseForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address, typed to be sure."""

    email: str = ""


class ClosePage(msgspec.Struct, frozen=True, kw_only=True):
    """What closing an account means."""

    email: str
    problem: Problem | None = None
