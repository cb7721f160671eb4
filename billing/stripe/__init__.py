"""The one place that speaks to Stripe: its client, its errors in our words, its units."""
