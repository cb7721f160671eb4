"""Usage blocks to token counts, and the hold that every request settles or releases."""
