"""Taking back what Stripe counted beyond what the ledger says."""
