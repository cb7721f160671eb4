"""Identifiers: sortable, unguessable where they must be, and recognisable by their prefix."""

import os
import secrets
import time
from uuid import UUID

VERSION_7 = 0x7
VARIANT_RFC = 0b10
RANDOM_A_BITS = 12
RANDOM_B_BITS = 62


def uuid7() -> UUID:
    """Make a UUID of version 7 (RFC 9562): milliseconds first, so that an index of it only grows at its end."""
    unix_ms = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = unix_ms << 80
    value |= VERSION_7 << 76
    value |= (random >> RANDOM_B_BITS & (1 << RANDOM_A_BITS) - 1) << 64
    value |= VARIANT_RFC << 62
    value |= random & (1 << RANDOM_B_BITS) - 1
    return UUID(int=value)


def request_label(request_id: UUID) -> str:
    """Write a request id as clients see it: ``req_`` and 32 hexadecimal digits."""
    return f"req_{request_id.hex}"


def response_label(request_id: UUID) -> str:
    """Make the id of a response, ``resp_`` and 48 hexadecimal digits: the request's id and 64 random bits."""
    return f"resp_{request_id.hex}{secrets.token_hex(8)}"


def random_label(prefix: str) -> str:
    """Make an unguessable id like ``msg_`` and 48 hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(24)}"
