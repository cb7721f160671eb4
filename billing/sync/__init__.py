"""Carrying the ledger to Stripe: frozen batches, sent until it is proved that each arrived exactly once."""
