"""What is said to the scripts in Redis, and how their answers are read: pure, so that its form can be tested alone.

One account has one hash, its state: counters, minute buckets and one field for each request in flight. Beside it are,
for a second at most, a lock while somebody reads the account from Postgres, and the ends that were heard of meanwhile.
The names of all three carry the account in braces, so that Redis Cluster keeps them in one slot; and a version, so that
a later form of the state has names of its own.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from uuid import UUID

import msgspec

from gateway.quota.model import AccountSnapshot, Decision, OpenHold, ReserveRequest
from gateway.quota.redis_server import Reply
from gateway.quota.rules import moment_of, unix_us_of

SCRIPTS = {
    file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
    for file in (files("gateway.quota") / "scripts").iterdir()
    if file.name.endswith(".lua")
}
"""The scripts by their versioned names, so that two versions of the gateway can run side by side."""

DIGESTS = {
    name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()
}

PREFIX = "nusagate:1"
STATE_LIFE_MS = 300_000
"""No state lives longer, so nothing that might be wrong in it does, and one that is not used goes away."""
LOCK_MS = 1_000
VERIFY_AFTER_US = 3_000_000
"""While something is held, nobody is refused by a state that was read from Postgres longer ago than this."""
LARGEST = 2**53 - 1
"""Lua's numbers are exact up to here; a limit above it is none."""

NO_NUMBER = ""
REPLY_REBUILD = b"rebuild"
REPLY_WAIT = b"wait"


class ScriptCall(msgspec.Struct, frozen=True, gc=False):
    """One run of a script; its arguments follow the server's identity."""

    script: str
    keys: tuple[bytes, ...]
    arguments: tuple[bytes | str | int, ...]


class Rebuild(msgspec.Struct, frozen=True, gc=False):
    """Redis does not know the account, and the asker holds the lock, as ``nonce`` proves, to read it from Postgres."""

    nonce: bytes


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Redis does not know the account, and somebody is reading it from Postgres."""


class Decided(msgspec.Struct, frozen=True, gc=False):
    """Redis knew the account, by the fence that it was read under."""

    fence: int
    decision: Decision


def state_key(account_id: UUID) -> bytes:
    """Name the hash of an account."""
    return f"{PREFIX}:{{{account_id.hex}}}".encode()


def account_keys(account_id: UUID) -> tuple[bytes, bytes, bytes]:
    """Name all keys of an account: its state, its lock, and the ends heard of while it is locked."""
    state = state_key(account_id)
    return state, state + b":lock", state + b":ended"


def reserve_call(request: ReserveRequest, now_us: int | None) -> ScriptCall:
    """Ask for one request to be decided; ``now_us`` is for tests, Redis' clock decides otherwise."""
    return ScriptCall(
        "reserve_v1",
        account_keys(request.account_id)[:2],
        (
            request.request_id.hex,
            request.key_id.hex,
            request.input_tokens,
            request.output_tokens,
            request.output_min,
            request.choices,
            _limit(request.month_limit),
            _limit(request.day_limit),
            _limit(request.key_limit),
            _limit(request.requests_per_minute),
            _limit(request.tokens_per_minute),
            _limit(request.concurrency),
            _number(now_us),
            VERIFY_AFTER_US,
            LOCK_MS,
        ),
    )


def settle_call(account_id: UUID, request_id: UUID, used_tokens: int, now_us: int | None) -> ScriptCall:
    """Turn a hold into use."""
    return ScriptCall(
        "settle_v1", account_keys(account_id), (request_id.hex, used_tokens, _number(now_us), LOCK_MS)
    )


def release_call(account_id: UUID, request_id: UUID, fence: int) -> ScriptCall:
    """Undo a reservation that was not recorded."""
    return ScriptCall("release_v1", (state_key(account_id),), (request_id.hex, fence))


def forget_call(account_id: UUID, fence: int | None) -> ScriptCall:
    """Drop an account's state: the one of a fence, or any."""
    return ScriptCall("forget_v1", (state_key(account_id),), (_number(fence),))


def install_call(snapshot: AccountSnapshot, nonce: bytes, now_us: int | None) -> ScriptCall:
    """Set an account's state to what Postgres says."""
    fields: list[str | int] = [
        "requests_tat_us", snapshot.requests_tat_us, "tokens_tat_us", snapshot.tokens_tat_us,
    ]  # fmt: skip
    for counter in snapshot.counters:
        whose = (
            counter.period
            if counter.subject_id == snapshot.account_id
            else f"{counter.subject_id.hex}:{counter.period}"
        )
        fields += [f"used:{whose}", counter.used_tokens, f"held:{whose}", counter.held_tokens]
    holds = [text for hold in snapshot.holds for text in (hold.request_id.hex, _hold_text(hold))]
    return ScriptCall(
        "install_v1",
        account_keys(snapshot.account_id),
        (nonce, snapshot.fence, STATE_LIFE_MS, _number(now_us), len(fields) // 2, *fields, *holds),
    )


def read_answer(reply: Sequence[Reply]) -> Decided | Rebuild | Wait:
    """Read what ``reserve_v1`` answers."""
    if reply[0] == REPLY_REBUILD:
        return Rebuild(reply[1])
    if reply[0] == REPLY_WAIT:
        return Wait()
    (_, fence, refused_by, granted, admitted_us, month_used, month_held, scope_used, scope_held, retry_after_us,
     requests_remaining, requests_reset_us, tokens_remaining, tokens_reset_us) = reply  # fmt: skip
    return Decided(
        fence,
        Decision(
            refused_by=refused_by.decode() or None,
            granted_output=granted,
            admitted_at=moment_of(admitted_us),
            month_used=month_used,
            month_held=month_held,
            scope_used=scope_used,
            scope_held=scope_held,
            retry_after_us=retry_after_us,
            requests_remaining=None if requests_remaining < 0 else requests_remaining,
            requests_reset_us=requests_reset_us,
            tokens_remaining=None if tokens_remaining < 0 else tokens_remaining,
            tokens_reset_us=tokens_reset_us,
        ),
    )


def _hold_text(hold: OpenHold) -> str:
    """Write a hold as the scripts do; the costs are for undoing one that was not recorded, and this one was."""
    return (
        f"{hold.key_id.hex} {hold.period} {hold.day} {hold.reserved_tokens} {hold.granted_output} "
        f"{unix_us_of(hold.admitted_at)} 0 0 {hold.tokens_per_minute or 0}"
    )


def _limit(limit: int | None) -> int | str:
    return NO_NUMBER if limit is None or limit > LARGEST else limit


def _number(number: int | None) -> int | str:
    return NO_NUMBER if number is None else number
