"""Price books as an operator manages them: drafted, looked at, published, and corrected by entries, never by edits."""
