"""What somebody changes about themselves: the password, forgotten or not, the language, and leaving for good."""

from datetime import timedelta

from admin.access import delays, entering, second_factor, sessions, store, trail
from admin.access.door import Caller, Door
from admin.access.joining import FREE_PLAN, mailbox_digests
from admin.access.keyring import new_token, token_digest
from admin.access.model import Language, LinkRefused, Person, PlanRunning, Session
from admin.access.passwords import check_password
from admin.mail import letters
from admin.mail import service as mail
from billing.subscriptions.model import current
from billing.subscriptions.store import subscriptions_of
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus, normalise_email
from gateway.db.pool import Connection, Db
from gateway.errors import InvalidValue
from gateway.keys import service as keys
from gateway.responses.store import delete_responses_of

A_DAY = timedelta(days=1)


async def count_reset(door: Door, db: Db, caller: Caller) -> None:
    """Count that a network asks for a link; ``TooSoon`` for one that asks and asks. ``db`` is outside any transaction."""
    await delays.attempt(db, door.keyring, delays.RESET, caller.network, door.clock.now())


async def ask_reset(door: Door, connection: Connection, email: str, language: Language) -> None:
    """Mail a link that sets a new password, if somebody has this address; the caller holds the transaction.

    The answer is the same for every address, and for somebody who asked too often.
    """
    try:
        found = await store.find_person(connection, normalise_email(email))
    except InvalidValue:
        return
    if found is None or found[1].closed:
        return
    person, now = found[0], door.clock.now()
    if await store.count_resets(connection, person.person_id, now - A_DAY) >= door.limits.resets_per_day:
        return
    token = new_token()
    ends_at = now + timedelta(minutes=door.limits.reset_minutes)
    await store.insert_reset(connection, token_digest(token), person.person_id, now=now, expires_at=ends_at)
    letter = letters.reset(
        person.language or language, f"{door.public_url}/reset/new?token={token}", door.limits.reset_minutes
    )
    await mail.post(connection, door.clock, person.email, letter)


async def check_reset(door: Door, db: Db, token: str) -> None:
    """See that a reset link can still be used; ``LinkRefused``."""
    if await store.find_reset(db, token_digest(token), door.clock.now()) is None:
        raise LinkRefused


async def reset_password(
    door: Door, connection: Connection, token: str, password: str, language: Language
) -> None:
    """Set a new password by a link of a mail, and end every session; the caller holds the transaction.

    ``LinkRefused`` or ``PasswordRefused``.
    """
    now = door.clock.now()
    person_id = await store.find_reset(connection, token_digest(token), now)
    if person_id is None:
        raise LinkRefused
    person, locks = await store.lock_person(connection, person_id)
    # Somebody else may have used the link while we waited.
    if locks.closed or await store.find_reset(connection, token_digest(token), now) is None:
        raise LinkRefused
    await _keep(door, connection, person, password, language)
    await store.use_resets(connection, person_id, now)
    await sessions.end_all(door, connection, person_id)
    await trail.keep(connection, door.clock, person, "password:reset")


async def change_password(
    door: Door, connection: Connection, session: Session, *, new: str, language: Language
) -> None:
    """Set a new password, after the current one was confirmed, and end every other session and every reset link.

    The caller holds the transaction. ``PasswordRefused`` for a weak one, ``LoginRefused`` where it was changed meanwhile.
    """
    person = await entering.hold(connection, session.person)
    await _keep(door, connection, person, new, language)
    # A link that somebody else has asked for, or has, would undo it.
    await store.use_resets(connection, person.person_id, door.clock.now())
    await sessions.end_others(door, connection, session)
    await trail.keep(connection, door.clock, person, "password:change")


async def set_language(db: Db, person: Person, language: Language) -> None:
    """Remember the language of somebody for pages and mail."""
    await store.set_language(db, person.person_id, language)


async def close(door: Door, connection: Connection, person: Person) -> None:
    """Let somebody go: every key stops, the account serves nothing more, and what is kept of them is deleted.

    What stays: the ledger and the keys' names in it, because bills are made from them; the address, so that nobody else
    can take the account over; and, without the address, that the mailbox had its account. The caller holds the
    transaction. ``PlanRunning`` for somebody whose plan would go on being paid.
    """
    running = current(await subscriptions_of(connection, person.account_id))
    if running is not None and running.cancel_at is None:
        raise PlanRunning
    account = await accounts.get(connection, person.account_id)
    for key in await keys.list_keys(connection, person.account_id):
        if key.revoked_at is None:
            await keys.revoke_key(connection, door.clock, key.key_id, account_id=person.account_id)
    await accounts.set_status(connection, person.account_id, AccountStatus.SUSPENDED)
    await delete_responses_of(connection, person.account_id)
    now = door.clock.now()
    await store.close_person(connection, person.person_id, now)
    await store.forget_person(
        connection,
        person,
        mailbox_digests(door, person.email),
        now=now,
        holds_share=account.plan_id == FREE_PLAN,
    )
    await trail.keep(
        connection,
        door.clock,
        person,
        "account:close",
        before={"plan": account.plan_id, "status": account.status},
    )


async def switch_second_factor_off(
    door: Door, connection: Connection, session: Session, *, password: str, language: Language
) -> None:
    """Ask for the second factor no more, once the password was confirmed and is long enough to stand alone.

    The caller holds the transaction. ``PasswordRefused`` for one that is too short for that, ``LoginRefused`` where it was
    changed meanwhile.
    """
    person = await entering.hold(connection, session.person)
    check_password(password, email=person.email, second_factor=False)
    await second_factor.switch_off(connection, person)
    await trail.keep(connection, door.clock, person, "second_factor:switch_off")
    letter = letters.second_factor_off(person.language or language, f"{door.public_url}/login")
    await mail.post(connection, door.clock, person.email, letter)


async def _keep(
    door: Door, connection: Connection, person: Person, password: str, language: Language
) -> None:
    text = check_password(password, email=person.email, second_factor=person.second_factor_since is not None)
    kept = await door.hasher.hash(text)
    await store.set_password(connection, person.person_id, kept, door.clock.now())
    letter = letters.password_changed(person.language or language, f"{door.public_url}/reset")
    await mail.post(connection, door.clock, person.email, letter)
