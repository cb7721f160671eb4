"""What an account's owner wants to spend in a month at most: a hard limit, and mail before it is reached."""
