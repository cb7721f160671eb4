"""Plans that are paid through Stripe: bought, changed, cancelled, and what they entitle an account to."""
