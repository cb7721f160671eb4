"""Who somebody is: sign-up, login, sessions, second factor, and what slows down those who guess."""
