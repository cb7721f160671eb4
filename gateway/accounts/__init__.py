"""Who uses the gateway, on which plan, in which currency, with which limits."""
