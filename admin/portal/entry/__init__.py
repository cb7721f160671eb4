"""Coming in and going out: sign-up, verification, login, second factor, new password, confirmation."""
