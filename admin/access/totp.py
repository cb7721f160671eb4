"""Codes of an authenticator app (RFC 6238: SHA-1, 30 seconds, 6 digits) and codes for the day it is lost."""

import base64
import hmac
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
STEPS_EITHER_SIDE = 1
"""A phone's clock may be half a minute off."""

NONCE_BYTES = 20
SECRET_BYTES = 20
RECOVERY_CODES = 10
RECOVERY_LENGTH = 10
RECOVERY_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing that could be read as something else; 10 characters are 49 bits."""


def step_of(moment: datetime) -> int:
    """Number the time step that a moment belongs to."""
    return int(moment.timestamp()) // STEP_S


def code_at(secret: bytes, step: int) -> str:
    """Return the code of a time step."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def matching_step(secret: bytes, code: str, now: datetime, *, after: int) -> int | None:
    """Return the step that a code belongs to, near now and later than the last one that was used, or ``None``."""
    typed = "".join(code.split()).encode()
    middle = step_of(now)
    for step in range(middle - STEPS_EITHER_SIDE, middle + STEPS_EITHER_SIDE + 1):
        if step > after and hmac.compare_digest(code_at(secret, step).encode(), typed):
            return step
    return None


def secret_text(secret: bytes) -> str:
    """Write a secret as authenticator apps take it, in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def enrolment_uri(secret: bytes, email: str) -> str:
    """Return the address that a QR code carries to the app."""
    label = quote(f"Nusagate:{email}", safe="")
    parameters = {"secret": base64.b32encode(secret).decode().rstrip("="), "issuer": "Nusagate"}
    return f"otpauth://totp/{label}?{urlencode(parameters)}"


def new_recovery_codes() -> list[str]:
    """Make codes that each open the door once without the app, written ``abcde-fghjk``."""
    half = RECOVERY_LENGTH // 2
    texts = [
        "".join(secrets.choice(RECOVERY_ALPHABET) for _ in range(RECOVERY_LENGTH))
        for _ in range(RECOVERY_CODES)
    ]
    return [f"{text[:half]}-{text[half:]}" for text in texts]


def plain_recovery_code(typed: str) -> bytes:
    """Take a code as somebody typed it, with or without the dash, in any case."""
    return "".join(character for character in typed.lower() if character in RECOVERY_ALPHABET).encode()
