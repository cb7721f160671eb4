"""Entries that an operator writes by hand: goodwill, or what was counted wrongly."""
