"""Logging in: a password, then the second factor where there is one, each slowed down for who guesses.

The answer and its time are the same for an address that nobody has.
"""

from uuid import UUID

from admin.access import delays, second_factor, sessions, store
from admin.access.door import Caller, Door
from admin.access.model import CodeRefused, LoginNeeded, LoginRefused, Person, Session, Stage
from gateway.accounts.model import normalise_email
from gateway.db.pool import Connection, Db
from gateway.errors import InvalidValue

NOBODY = UUID(int=0)


async def check_password(door: Door, db: Db, *, email: str, password: str, caller: Caller) -> Person:
    """Return who somebody is; ``LoginRefused``, or ``TooSoon`` for who guesses.

    ``db`` is outside any transaction, so that attempts count whatever comes of them.
    """
    try:
        address = normalise_email(email)
    except InvalidValue:
        raise LoginRefused from None
    found = await store.find_person(db, address)
    person, locks = found or (None, None)
    # Asked for an address that nobody has too, so that the same is done for both.
    known = await store.is_known_network(db, person.person_id if person else NOBODY, caller.network)
    await _count(door, db, address, caller, known=known)
    matches = await door.hasher.verify(password, locks.password_hash if locks else None)
    if person is None or locks is None or not matches or locks.closed:
        raise LoginRefused
    await _forget(door, db, address, caller, known=known)
    if door.hasher.is_outdated(locks.password_hash):
        renewed = await door.hasher.hash(password)
        await store.rehash_password(db, person.person_id, old=locks.password_hash, new=renewed)
    return person


async def _count(door: Door, db: Db, address: str, caller: Caller, *, known: bool) -> None:
    """Count an attempt: an owner who has been here before waits for nobody who guesses elsewhere or at others."""
    now = door.clock.now()
    if known:
        await delays.attempt(db, door.keyring, delays.KNOWN, f"{address} {caller.network}", now)
        return
    await delays.attempt(db, door.keyring, delays.NETWORK, caller.network, now)
    await delays.attempt(db, door.keyring, delays.ADDRESS, address, now)


async def _forget(door: Door, db: Db, address: str, caller: Caller, *, known: bool) -> None:
    if known:
        await delays.forget(db, door.keyring, delays.KNOWN, f"{address} {caller.network}")
        return
    await delays.forgive(db, door.keyring, delays.NETWORK, caller.network)
    await delays.forget(db, door.keyring, delays.ADDRESS, address)


async def hold(connection: Connection, person: Person) -> Person:
    """Hold somebody for the transaction and return them as they are; ``LoginRefused`` for a password that is over.

    It was checked before, without holding anybody. Who knows it and asks again and again would otherwise be let in, or
    change it back, in the moment in which its owner gets rid of it.
    """
    known, locks = await store.lock_person(connection, person.person_id)
    if locks.closed or known.password_changed_at != person.password_changed_at:
        raise LoginRefused
    return known


async def enter(
    door: Door, connection: Connection, person: Person, caller: Caller, *, before: Session | None
) -> tuple[str, Stage]:
    """Open a session after the password was right; return its token, and whether a second factor is asked for.

    ``before`` is the session that the browser had, if any; it ends here. The caller holds the transaction.
    ``LoginRefused`` where the password was changed meanwhile.
    """
    person = await hold(connection, person)
    if before is not None:
        await store.end_session(connection, before.session_id, before.person.person_id, door.clock.now())
    stage = Stage.OPEN if person.second_factor_since is None else Stage.SECOND_FACTOR
    return await sessions.open_session(door, connection, person, caller, stage), stage


async def pass_second_factor(
    door: Door, connection: Connection, session: Session, code: str, caller: Caller
) -> str:
    """Turn a session that waits for its second factor into an open one, with a new token; ``CodeRefused``.

    ``LoginNeeded`` where the session was ended meanwhile. The caller holds the transaction and has counted the attempt with ``count_code``.
    """
    if not await second_factor.use_code(door, connection, session.person, code):
        raise CodeRefused(param="code")
    if not await sessions.end_session(door, connection, session.person, session.session_id):
        raise LoginNeeded
    return await sessions.open_session(door, connection, session.person, caller, Stage.OPEN)


async def count_code(door: Door, db: Db, person: Person) -> None:
    """Count an attempt on a second factor; ``TooSoon``. ``db`` is outside any transaction."""
    await delays.attempt(db, door.keyring, delays.CODE, str(person.person_id), door.clock.now())


async def forget_codes(door: Door, db: Db, person: Person) -> None:
    """Begin to count from nothing, because the code was right."""
    await delays.forget(db, door.keyring, delays.CODE, str(person.person_id))


async def confirm(
    door: Door, db: Db, session: Session, *, password: str, caller: Caller, param: str = "password"
) -> None:
    """Take a password again before something that matters; ``LoginRefused`` for the field ``param``, or ``TooSoon``."""
    try:
        await check_password(door, db, email=session.person.email, password=password, caller=caller)
    except LoginRefused:
        raise LoginRefused("This is not your password.", param=param) from None
    await store.confirm_session(db, session.session_id, door.clock.now())
