"""The data plane: authenticate, limit, relay, count and record, and the ground floor everyone stands on."""
