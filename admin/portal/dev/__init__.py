"""Pages that exist in ``nusagate dev`` only: the mail that would have been sent, and every component."""
