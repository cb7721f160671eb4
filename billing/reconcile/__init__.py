"""The proof of delivery: Stripe's own sums beside ours, hour by hour and invoice by invoice."""
