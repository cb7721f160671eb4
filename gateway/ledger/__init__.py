"""What was used: append-only, one entry a request, committed before the client sees the end."""
