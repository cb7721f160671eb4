"""Who an account is at Stripe."""
