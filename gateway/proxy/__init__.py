"""The relay of bytes and events, and the ways in which a request can end."""
