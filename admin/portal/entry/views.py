"""What the pages of coming in show, and the forms that they take."""

import msgspec

from admin.web.pages import Problem


class SignUpForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address and a password."""

    email: str = ""
    password: str = ""


class SignUpPage(msgspec.Struct, frozen=True, kw_only=True):
    """The form as it was typed, without the password."""

    email: str = ""
    problem: Problem | None = None
    monthly_tokens: int | None


class SentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the mail went, and how long until another one may be asked for."""

    email: str
    wait_s: int
    problem: Problem | None = None


class VerifyForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link followed in another browser than the one that signed up."""

    token: str = ""
    password: str = ""


class TokenPage(msgspec.Struct, frozen=True, kw_only=True):
    """A form that belongs to a link of a mail."""

    token: str
    problem: Problem | None = None


class LoginForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address and a password, and where to go on."""

    email: str = ""
    password: str = ""
    next: str = ""


class LoginPage(msgspec.Struct, frozen=True, kw_only=True):
    """The form as it was typed, without the password."""

    email: str = ""
    next: str = ""
    problem: Problem | None = None


class CodeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code of the app, or a recovery code."""

    code: str = ""
    next: str = ""


class NextPage(msgspec.Struct, frozen=True, kw_only=True):
    """A form that goes on somewhere."""

    next: str
    problem: Problem | None = None


class ResetForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address of somebody who does not remember a password."""

    email: str = ""


class ResetPage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the mail went, once it was asked for."""

    email: str = ""
    sent: bool = False
    problem: Problem | None = None


class ConfirmForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password again."""

    password: str = ""
    next: str = ""
