"""Invoices as Stripe has them, our own statement of a month, and the closing of a month."""
