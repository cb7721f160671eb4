"""What Stripe tells us: verified, kept, and worked off from the table."""
