"""What an account has used: the month's meter, and tables whose range and grouping stand in the address."""
