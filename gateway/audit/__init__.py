"""What was done to keys, money and access, kept for good beside what it changed."""
