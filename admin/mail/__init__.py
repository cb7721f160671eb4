"""Mail: a row of the transaction that causes it, sent by the worker, readable on a page in ``nusagate dev``."""
