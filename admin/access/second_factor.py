"""The second factor: an authenticator app, and recovery codes for the day it is lost.

The app's secret is not stored. It follows from a random nonce in the table and from a secret that is not in the
database, so a stolen table opens nothing.
"""

import secrets

from admin.access import store, trail
from admin.access.door import Door
from admin.access.keyring import Purpose
from admin.access.model import CodeRefused, Locks, Person, SecondFactorState
from admin.access.totp import (
    NONCE_BYTES,
    SECRET_BYTES,
    matching_step,
    new_recovery_codes,
    plain_recovery_code,
)
from gateway.db.pool import Connection


async def begin(door: Door, connection: Connection, person: Person) -> bytes:
    """Prepare a second factor and return the secret for the app; the caller holds the transaction.

    Preparing again before the first code was right returns the same secret, so that reloading the page changes
    nothing. ``SecondFactorState`` if it is on already.
    """
    known, locks = await store.lock_person(connection, person.person_id)
    if known.second_factor_since is not None:
        raise SecondFactorState("The second factor is on already.")
    if locks.totp_nonce is not None and locks.totp_version == door.keyring.newest:
        return _secret(door, locks)
    nonce = secrets.token_bytes(NONCE_BYTES)
    await store.begin_second_factor(connection, person.person_id, nonce, door.keyring.newest)
    _, locks = await store.lock_person(connection, person.person_id)
    return _secret(door, locks)


async def switch_on(door: Door, connection: Connection, person: Person, code: str) -> list[str]:
    """Ask for the second factor from now on, and return the recovery codes, which are shown this once.

    The caller holds the transaction. ``CodeRefused``, or ``SecondFactorState`` if it was not prepared.
    """
    known, locks = await store.lock_person(connection, person.person_id)
    if known.second_factor_since is not None or locks.totp_nonce is None:
        raise SecondFactorState
    now = door.clock.now()
    step = matching_step(_secret(door, locks), code, now, after=locks.totp_last_step)
    if step is None:
        raise CodeRefused(param="code")
    await store.set_second_factor(connection, person.person_id, now, step)
    await trail.keep(connection, door.clock, person, "second_factor:switch_on")
    return await _renew(door, connection, person)


async def renew_recovery_codes(door: Door, connection: Connection, person: Person) -> list[str]:
    """Make new recovery codes in place of the ones before; the caller holds the transaction.

    ``SecondFactorState`` where there is no second factor.
    """
    # Of two who ask at once, the codes of the first are among those that the second replaces.
    known, _ = await store.lock_person(connection, person.person_id)
    if known.second_factor_since is None:
        raise SecondFactorState
    await trail.keep(connection, door.clock, person, "recovery_codes:renew")
    return await _renew(door, connection, person)


async def switch_off(connection: Connection, person: Person) -> None:
    """Ask for the second factor no more."""
    await store.remove_second_factor(connection, person.person_id)


async def use_code(door: Door, connection: Connection, person: Person, typed: str) -> bool:
    """Take a code of the app or a recovery code, each once; the caller holds the transaction."""
    known, locks = await store.lock_person(connection, person.person_id)
    if known.second_factor_since is None or locks.totp_nonce is None:
        return False
    now = door.clock.now()
    step = matching_step(_secret(door, locks), typed, now, after=locks.totp_last_step)
    if step is not None:
        await store.use_step(connection, person.person_id, step)
        return True
    return await store.use_recovery_code(connection, person.person_id, _digests(door, person, typed), now)


async def _renew(door: Door, connection: Connection, person: Person) -> list[str]:
    codes = new_recovery_codes()
    digests = [_digests(door, person, code)[0] for code in codes]
    await store.replace_recovery_codes(connection, person.person_id, digests)
    return codes


def _secret(door: Door, locks: Locks) -> bytes:
    assert locks.totp_nonce is not None
    digest = door.keyring.digest(Purpose.SECOND_FACTOR, locks.totp_nonce, version=locks.totp_version)
    return digest[:SECRET_BYTES]


def _digests(door: Door, person: Person, code: str) -> list[bytes]:
    """Return what is stored of a recovery code, under the newest secret first."""
    value = person.person_id.bytes + plain_recovery_code(code)
    newest = door.keyring.digest(Purpose.RECOVERY, value)
    return [newest, *(digest for digest in door.keyring.digests(Purpose.RECOVERY, value) if digest != newest)]
