"""The front page: what this is, what is free, and the first request."""
