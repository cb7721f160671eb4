"""How a key is written, recognised and kept.

A key is ``nsk_live_``, 32 random characters of base 62 (190 bits) and 6 characters that are the CRC-32 of
those 32. The checksum lets garbage be refused without a query, and secret scanners find real keys only.
What is stored is an HMAC-SHA256 of the key under a versioned pepper, so a stolen table opens nothing.
"""

import hmac
import secrets
import string
import zlib
from functools import lru_cache
from itertools import product
from typing import Final

from gateway.keys.model import InvalidApiKey

PREFIX: Final = "nsk_live_"
ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_LENGTH: Final = 32
CHECKSUM_LENGTH: Final = 6
KEY_LENGTH: Final = len(PREFIX) + BODY_LENGTH + CHECKSUM_LENGTH
SHOWN_LENGTH: Final = 4
LAST_LENGTH: Final = 4
"""How many characters of the body and of the end are kept to recognise a key by."""

PEPPERS_PREPARED: Final = 16

_CHECKSUM_AT: Final = len(PREFIX) + BODY_LENGTH
_PAIRS: Final = ["".join(pair) for pair in product(ALPHABET, repeat=2)]


def generate_key() -> str:
    """Make the text of a new key."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(BODY_LENGTH))
    return f"{PREFIX}{body}{checksum(body.encode())}"


def derive_key(seed: bytes) -> str:
    """Write 32 secret bytes as the one key that follows from them, so that it need not be kept anywhere."""
    rest, letters = int.from_bytes(seed, "big"), []
    for _ in range(BODY_LENGTH):
        rest, index = divmod(rest, len(ALPHABET))
        letters.append(ALPHABET[index])
    body = "".join(letters)
    return f"{PREFIX}{body}{checksum(body.encode())}"


def checksum(body: bytes) -> str:
    """Write the CRC-32 of a key's body in base 62, six characters, zeros first."""
    rest, low = divmod(zlib.crc32(body), len(_PAIRS))
    high, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def parse_key(text: str) -> bytes:
    """Check the shape and the checksum of a presented key and return its bytes; ``InvalidApiKey``.

    Two microseconds, no query: this is what garbage costs.
    """
    if len(text) != KEY_LENGTH or not text.startswith(PREFIX) or not text.isascii():
        raise InvalidApiKey
    presented = text.encode()
    body = presented[len(PREFIX) : _CHECKSUM_AT]
    if not body.isalnum() or checksum(body) != text[_CHECKSUM_AT:]:
        raise InvalidApiKey
    return presented


def digest_key(presented: bytes, pepper: bytes) -> bytes:
    """Return what is stored of a key: 32 bytes that cannot be presented as a key."""
    mac = _prepared(pepper).copy()
    mac.update(presented)
    return mac.digest()


@lru_cache(maxsize=PEPPERS_PREPARED)
def _prepared(pepper: bytes) -> hmac.HMAC:
    """Return an HMAC that has its key already, which is the larger half of the work."""
    return hmac.new(pepper, digestmod="sha256")


def shown_prefix(text: str) -> str:
    """Return the beginning of a key that is kept: ``nsk_live_AbCd``."""
    return text[: len(PREFIX) + SHOWN_LENGTH]
