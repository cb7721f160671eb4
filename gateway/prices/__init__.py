"""Price books, rates, and the one cost function."""
