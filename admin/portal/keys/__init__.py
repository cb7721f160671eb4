"""The keys of an account: made, shown once, rotated, revoked."""
