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
    "plan_changed": mark("Your plan is changed. The new limits hold within a second."),
    "plan_later": mark("The cheaper plan is chosen. It begins when this month ends."),
    "plan_cancelled": mark(
        "Your plan is cancelled. It stays until the month ends, and you can take that back until then."
    ),
    "plan_kept": mark("Your plan stays."),
    "cap_set": mark("Your cap is set. It holds from now on."),
    "cap_removed": mark("Your cap is removed."),
    "alerts_saved": mark("Your choice of mail is kept."),
    "account_closed": mark("Your account is closed. All of its keys have stopped working."),
}
