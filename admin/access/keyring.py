"""Secrets derived for one purpose each, and the tokens that browsers and mails carry.

A token is 256 random bits, so its plain SHA-256 may be stored. What somebody could guess (an address, a recovery
code) is stored under a key instead. Every purpose has a key of its own: what proves one thing proves nothing else.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum

TOKEN_BYTES = 32
TOKEN_LENGTH_MAX = 64


class Purpose(StrEnum):
    """What a derived key is for."""

    FORM = "form"
    MAILBOX = "mailbox"
    GUESS = "guess"
    RECOVERY = "recovery code"
    SECOND_FACTOR = "second factor"
    PLAYGROUND = "playground"


class Keyring:
    """The installation's session secrets by version; the newest is used for what is new."""

    def __init__(self, versions: Mapping[int, bytes]) -> None:
        self._versions = versions
        self.newest = max(versions)

    def digest(self, purpose: Purpose, value: bytes, *, version: int | None = None) -> bytes:
        """Return 32 bytes that follow from a value and the purpose's key; ``KeyError`` for a version that is gone."""
        secret = self._versions[self.newest if version is None else version]
        key = hmac.digest(secret, f"nusagate {purpose}".encode(), "sha256")
        return hmac.digest(key, value, "sha256")

    def digests(self, purpose: Purpose, value: bytes) -> list[bytes]:
        """Return the digest under every version, for what was stored before a rotation."""
        return [self.digest(purpose, value, version=version) for version in self._versions]

    def form_token(self, binding: str) -> str:
        """Return what every form of a browser carries; ``binding`` is its session's or its visitor's token."""
        return self.digest(Purpose.FORM, binding.encode()).hex()

    def is_form_token(self, presented: str, binding: str) -> bool:
        """Tell whether a form was made for this browser, before or after a rotation."""
        return any(
            hmac.compare_digest(presented.encode(), digest.hex().encode())
            for digest in self.digests(Purpose.FORM, binding.encode())
        )


def new_token() -> str:
    """Make the text of a new token, 43 characters that need no escaping in a link or a cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token[:TOKEN_LENGTH_MAX].encode()).digest()
