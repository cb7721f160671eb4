"""What a person sets for themselves: language, password, second factor, sessions, and leaving."""
