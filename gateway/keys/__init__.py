"""API keys: made, shown once, recognised in microseconds, revoked within a second."""
