"""What pages ask of the ledger and its read models."""
