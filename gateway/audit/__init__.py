"""What operators did, kept for good beside what they changed."""
