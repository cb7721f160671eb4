"""What a plan allows, as data."""
