"""The limits of an account, and for each what happens when it is reached."""
