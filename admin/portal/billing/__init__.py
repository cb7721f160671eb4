"""What an account pays: its plan, this month's charges, invoices, caps and credit. Cards are Stripe's, and stay there."""
