"""What the product writes to people, in their language. Links are made by the caller, from configuration only."""

from admin.access.model import Language
from admin.mail.model import Letter
from admin.web.i18n import gettext_of


def verify(language: Language, link: str, hours: int) -> Letter:
    """Ask somebody who signed up to follow a link."""
    _ = gettext_of(language)
    return _letter(
        _("Confirm your e-mail address"),
        _("Hello,"),
        _("this link finishes your sign-up at Nusagate:"),
        link,
        _("It works once, for %(hours)s hours. If you did not sign up, ignore this mail; no account is made.")
        % {"hours": hours},
    )


def known_address(language: Language, login: str, reset: str) -> Letter:
    """Tell somebody who signs up again that they have an account."""
    _ = gettext_of(language)
    return _letter(
        _("You already have an account"),
        _("Hello,"),
        _(
            "somebody, probably you, asked for a Nusagate account with this address. There is one already. Log in:"
        ),
        login,
        _("If you do not remember the password, choose a new one:"),
        reset,
        _("If it was not you, there is nothing to do: nothing was changed."),
    )


def used_mailbox(language: Language, login: str) -> Letter:
    """Tell somebody who signs up again, under another spelling or after leaving, that a mailbox has one account."""
    _ = gettext_of(language)
    return _letter(
        _("This mailbox has had its account"),
        _("Hello,"),
        _(
            "somebody, probably you, asked for a Nusagate account with this address. This mailbox has had its free account"
            " already, perhaps under another spelling of the address. If it is still open, log in with that one:"
        ),
        login,
        _("If it was not you, there is nothing to do: nothing was changed."),
    )


def second_factor_off(language: Language, login: str) -> Letter:
    """Tell somebody that their password alone opens their account now."""
    _ = gettext_of(language)
    return _letter(
        _("Your second factor was turned off"),
        _("Hello,"),
        _(
            "the second factor of your Nusagate account was turned off a moment ago: the password alone opens it now."
        ),
        _("If it was not you, log in, change the password and turn it on again:"),
        login,
    )


def reset(language: Language, link: str, minutes: int) -> Letter:
    """Let somebody choose a new password."""
    _ = gettext_of(language)
    return _letter(
        _("Choose a new password"),
        _("Hello,"),
        _("this link lets you choose a new password for Nusagate:"),
        link,
        _("It works once, for %(minutes)s minutes. If you did not ask for it, ignore this mail.")
        % {"minutes": minutes},
    )


def password_changed(language: Language, reset_link: str) -> Letter:
    """Tell somebody that their password is another one now."""
    _ = gettext_of(language)
    return _letter(
        _("Your password was changed"),
        _("Hello,"),
        _(
            "the password of your Nusagate account was changed a moment ago, and other browsers were logged out."
        ),
        _("If it was not you, take the account back now:"),
        reset_link,
    )


def _letter(subject: str, *paragraphs: str) -> Letter:
    return Letter(subject, "\n\n".join((*paragraphs, "Nusagate")) + "\n")
