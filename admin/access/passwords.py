"""Passwords: which are good enough, and how they are kept.

The rules are NIST SP 800-63B-4's: length instead of composition, 15 characters where the password is alone, 8 beside
a second factor, no known ones. They are kept as argon2id with OWASP's parameters.
"""

import asyncio
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from admin.access.model import PasswordRefused, TooBusy

Result = TypeVar("Result")

LENGTH_ALONE_MIN = 15
LENGTH_WITH_SECOND_FACTOR_MIN = 8
LENGTH_MAX = 200
TYPED_MAX = 4 * LENGTH_MAX
"""What is normalised at all: a character has four parts at the most, and the time that it takes grows with the square of
the marks that follow each other, so a form full of them would hold up everybody for seconds."""

DISTINCT_MIN = 5
NAME_LENGTH_MIN = 4

MEMORY_KIB = 19 * 1024
TIME_COST = 2
PARALLELISM = 1
AT_ONCE_MAX = 2
"""Each hash takes 19 MiB and a core for some 30 ms; more at once would slow down everything else."""

WAITING_MAX = 100
"""Whoever would wait behind more, for some seconds, is told to come back instead."""


def check_password(password: str, *, email: str, second_factor: bool) -> str:
    """Return the password in the form in which it is kept, or ``PasswordRefused`` with what is wrong."""
    text = unicodedata.normalize("NFKC", password[: TYPED_MAX + 1])
    shortest = LENGTH_WITH_SECOND_FACTOR_MIN if second_factor else LENGTH_ALONE_MIN
    if len(text) < shortest:
        raise PasswordRefused(
            "Use at least %(shortest)s characters. A few words in a row are easy to remember.",
            param="password",
            shortest=shortest,
        )
    if len(text) > LENGTH_MAX or len(password) > TYPED_MAX:
        raise PasswordRefused("Use at most %(longest)s characters.", param="password", longest=LENGTH_MAX)
    if _is_common(text) or len(set(text)) < DISTINCT_MIN:
        raise PasswordRefused("This password is easy to guess. Choose another one.", param="password")
    name = email.partition("@")[0]
    if len(name) >= NAME_LENGTH_MIN and len(text.lower().replace(name, "")) < LENGTH_WITH_SECOND_FACTOR_MIN:
        raise PasswordRefused("Choose a password that is not your e-mail address.", param="password")
    return text


def _is_common(text: str) -> bool:
    """Tell whether a password is a known one, also when it is written twice or has digits hung on."""
    lower = text.lower()
    known = common_passwords()
    bare = lower.rstrip("0123456789!.?_-@# ")
    half = lower[: len(lower) // 2]
    return lower in known or bare in known or (half * 2 == lower and half in known)


@cache
def common_passwords() -> frozenset[str]:
    """Read the passwords that are tried first."""
    text = (files("admin.access") / "common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


class Hasher:
    """Hashes and verifies passwords in threads, two at a time; ``TooBusy`` where too many wait already."""

    def __init__(self) -> None:
        self._argon2 = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._waiting = 0
        # Somebody without an account costs as much time as somebody with one.
        self._nobody = self._argon2.hash("the password of nobody")

    async def hash(self, password: str) -> str:
        """Return what is kept of a password."""
        return await self._in_turn(self._argon2.hash, password)

    async def verify(self, password: str, kept: str | None) -> bool:
        """Tell whether a password is the one that is kept; ``None`` is nobody's and takes as long.

        The empty text is what is left of somebody who closed their account.
        """
        text = unicodedata.normalize("NFKC", password[:TYPED_MAX])[:LENGTH_MAX]
        matches = await self._in_turn(self._matches, kept or self._nobody, text)
        return matches and bool(kept)

    def is_outdated(self, kept: str) -> bool:
        """Tell whether a password should be hashed again, because the parameters have changed."""
        return self._argon2.check_needs_rehash(kept)

    async def _in_turn(self, work: Callable[..., Result], *values: str) -> Result:
        if self._waiting >= WAITING_MAX:
            raise TooBusy
        self._waiting += 1
        try:
            async with self._at_once:
                return await asyncio.to_thread(work, *values)
        finally:
            self._waiting -= 1

    def _matches(self, kept: str, password: str) -> bool:
        try:
            return self._argon2.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
