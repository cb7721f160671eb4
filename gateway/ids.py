"""Identifiers: sortable, unguessable where they must be, and recognisable by their prefix."""

import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

RANDOM_BITS = 80
RANDOM_MASK = (1 << RANDOM_BITS) - 1
FIXED_BITS = 0xF << 76 | 0b11 << 62
VERSION_7 = 0x7 << 76 | 0b10 << 62
"""The bits of a UUID that say what it is, and what they say: version 7 in the variant of RFC 9562."""

FIRST_UUID, LAST_UUID = UUID(int=0), UUID(int=(1 << 128) - 1)
"""Below and above all others, where a page of rows begins."""

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DRAW_BYTES = 4_096
SHARE_BYTES = 16

_shares: list[bytes] = []
# A child must not draw what its parent has in hand.
os.register_at_fork(after_in_child=_shares.clear)


def _random_share() -> bytes:
    """Return 16 random bytes of the system, drawn many at a time: asking for a few costs as much as for thousands."""
    try:
        return _shares.pop()
    except IndexError:
        drawn = os.urandom(DRAW_BYTES)
        _shares.extend(drawn[at : at + SHARE_BYTES] for at in range(SHARE_BYTES, DRAW_BYTES, SHARE_BYTES))
        return drawn[:SHARE_BYTES]


def uuid7() -> UUID:
    """Make a UUID of version 7 (RFC 9562): milliseconds first, so that an index of it only grows at its end."""
    unix_ms = time.time_ns() // 1_000_000
    random = int.from_bytes(_random_share(), "big") & RANDOM_MASK
    return UUID(int=unix_ms << RANDOM_BITS | random & ~FIXED_BITS | VERSION_7)


def uuid7_floor(moment: datetime) -> UUID:
    """Return what is not above any version 7 UUID of a moment and above all of the moments before it."""
    unix_ms = max(0, (moment - UNIX_EPOCH) // timedelta(milliseconds=1))
    return UUID(int=unix_ms << RANDOM_BITS)


def request_label(request_id: UUID) -> str:
    """Write a request id as clients see it: ``req_`` and 32 hexadecimal digits."""
    return f"req_{request_id.hex}"


def response_label(request_id: UUID) -> str:
    """Make the id of a response, ``resp_`` and 48 hexadecimal digits: the request's id and 64 random bits."""
    return f"resp_{request_id.hex}{_random_share()[:8].hex()}"


def random_label(prefix: str) -> str:
    """Make an unguessable id like ``msg_`` and 48 hexadecimal digits."""
    return f"{prefix}_{_random_share().hex()}{_random_share()[:8].hex()}"
