"""What a page may say at its top after something was done: a closed set, so that no link can make it say more."""

from admin.web.i18n import mark

NOTICES = {
    "key_revoked": mark("The key is revoked. It stops working within a second."),
    "logged_out": mark("You are logged out."),
    "password_set": mark("Your new password is set. Log in with it."),
    "password_changed": mark("Your password is changed, and other browsers are logged out."),
    "session_ended": mark("That browser is logged out."),
    "sessions_ended": mark("All other browsers are logged out."),
    "second_factor_off": mark("The second factor is off."),
    "mail_sent": mark("A new mail is on its way."),
    "account_closed": mark("Your account is closed. All of its keys have stopped working."),
}
