"""Credit that is paid in advance: a journal in double entry, drawn by usage, and the only thing that may be spent."""
