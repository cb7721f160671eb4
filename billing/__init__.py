"""Money out: what the ledger says is owed becomes what Stripe collects, never on the request path."""
