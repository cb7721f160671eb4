"""People, sessions and sign-ups in Postgres."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from admin.access.model import Language, Locks, Person, Session, SignUp, Stage
from gateway.db.pool import Connection, Db, Row
from gateway.db.queries import load_queries
from gateway.ids import uuid7

QUERIES = load_queries("admin.access")
DIGEST_BYTES = 32


class NewSignUp(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-up that is written down."""

    sign_up_id: UUID
    link_digest: bytes
    browser_digest: bytes
    mailbox_digest: bytes
    email: str
    network: str
    password_hash: str
    language: Language
    created_at: datetime
    expires_at: datetime


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is written down."""

    session_id: UUID
    token_digest: bytes
    person_id: UUID
    stage: Stage
    network: str
    agent: str
    created_at: datetime
    expires_at: datetime


async def count_attempt(
    db: Db, subject: bytes, now: datetime, *, free: int, wait_max_s: int, forgotten_after: timedelta
) -> bool:
    """Count an attempt; ``False`` if its wait is not over, and then it is not counted."""
    row = await db.fetchval(QUERIES["count_attempt"], subject, now, free, wait_max_s, forgotten_after)
    return row is not None


async def fetch_attempts(db: Db, subject: bytes) -> tuple[int, datetime] | None:
    """Read how often a subject was guessed at and when last."""
    row = await db.fetchrow(QUERIES["find_attempts"], subject)
    return (row["failures"], row["last_failed_at"]) if row else None


async def forgive_attempt(db: Db, subject: bytes) -> None:
    """Take one attempt back."""
    await db.execute(QUERIES["forgive_attempt"], subject)


async def forget_attempts(db: Db, subject: bytes) -> None:
    """Count from nothing."""
    await db.execute(QUERIES["forget_attempts"], subject)


async def find_person(db: Db, email: str) -> tuple[Person, Locks] | None:
    """Read somebody by address."""
    row = await db.fetchrow(QUERIES["find_person_by_email"], email)
    return (_person(row), _locks(row)) if row else None


async def lock_person(connection: Connection, person_id: UUID) -> tuple[Person, Locks]:
    """Read somebody who exists, and hold them for the transaction."""
    row = await connection.fetchrow(QUERIES["lock_person"], person_id)
    assert row is not None
    return _person(row), _locks(row)


async def is_known_network(db: Db, person_id: UUID, network: str) -> bool:
    """Tell whether somebody has been inside from a network before."""
    return bool(await db.fetchval(QUERIES["is_known_network"], person_id, network))


async def set_password(db: Db, person_id: UUID, password_hash: str, now: datetime) -> None:
    """Keep another password."""
    await db.execute(QUERIES["set_password"], person_id, password_hash, now)


async def rehash_password(db: Db, person_id: UUID, *, old: str, new: str) -> None:
    """Keep the same password under newer parameters."""
    await db.execute(QUERIES["rehash_password"], person_id, old, new)


async def set_language(db: Db, person_id: UUID, language: Language) -> None:
    """Remember the language of somebody."""
    await db.execute(QUERIES["set_language"], person_id, language)


async def close_person(db: Db, person_id: UUID, now: datetime) -> None:
    """Let somebody never enter again."""
    await db.execute(QUERIES["close_person"], person_id, now)


async def forget_person(
    db: Db, person: Person, mailbox_digests: Sequence[bytes], *, now: datetime, holds_share: bool
) -> None:
    """Delete what is kept of somebody who is closed, but for the address and that their mailbox had an account."""
    for name in ("delete_recovery_codes", "delete_sessions", "delete_resets"):
        await db.execute(QUERIES[name], person.person_id)
    await db.execute(QUERIES["forget_locks"], person.person_id)
    mails = 0 if holds_share else 1
    if await db.fetchval(QUERIES["keep_trace"], mailbox_digests, now, mails) is None:
        tokens = (secrets.token_bytes(DIGEST_BYTES), secrets.token_bytes(DIGEST_BYTES))
        await db.execute(QUERIES["insert_trace"], uuid7(), *tokens, mailbox_digests[0], now, mails)


async def find_account_of(db: Db, email: str) -> UUID | None:
    """Find the active account of an address, whoever made it."""
    found: UUID | None = await db.fetchval(QUERIES["find_account_of"], email)
    return found


async def sum_promised_tokens(db: Db, plan_id: str, each: int, month_began: datetime) -> int:
    """Sum the tokens that the accounts of a plan may use this month, those included that were closed in it."""
    return int(await db.fetchval(QUERIES["sum_promised_tokens"], plan_id, each, month_began))


async def hold_sign_ups(connection: Connection) -> None:
    """Let no other sign-up be finished before the transaction ends, so that two do not take the last place."""
    await connection.execute(QUERIES["hold_sign_ups"])


async def insert_person(db: Db, person_id: UUID, account_id: UUID, *, sign_up: SignUp, now: datetime) -> bool:
    """Write somebody new; ``False`` if the address or the account has somebody already."""
    written = await db.fetchval(
        QUERIES["insert_person"],
        person_id,
        account_id,
        sign_up.email,
        sign_up.password_hash,
        sign_up.language,
        now,
    )
    return written is not None


async def count_sign_ups_of_network(db: Db, network: str, since: datetime) -> int:
    """Count what a network asked for."""
    return int(await db.fetchval(QUERIES["count_sign_ups_of_network"], network, since))


async def count_sign_ups_before(
    db: Db, sign_up_id: UUID, mailbox_digests: Sequence[bytes], within: timedelta
) -> int:
    """Count what was asked for with one mailbox before a sign-up."""
    return int(await db.fetchval(QUERIES["count_sign_ups_before"], sign_up_id, mailbox_digests, within))


async def count_accounts_of_mailbox(db: Db, mailbox_digests: Sequence[bytes]) -> int:
    """Count the accounts that a mailbox has, and had."""
    return int(await db.fetchval(QUERIES["count_accounts_of_mailbox"], mailbox_digests))


async def insert_sign_up(db: Db, new: NewSignUp) -> None:
    """Write a sign-up."""
    await db.execute(QUERIES["insert_sign_up"], *msgspec.structs.astuple(new))


async def lock_sign_up_of_link(db: Db, link_digest: bytes) -> SignUp | None:
    """Read what a link belongs to, and hold it for the transaction if there is one."""
    row = await db.fetchrow(QUERIES["lock_sign_up_of_link"], link_digest)
    return _sign_up(row) if row else None


async def lock_sign_up_of_browser(db: Db, browser_digest: bytes) -> SignUp | None:
    """Read what a browser asked for last, and hold it for the transaction if there is one."""
    row = await db.fetchrow(QUERIES["lock_sign_up_of_browser"], browser_digest)
    return _sign_up(row) if row else None


async def renew_sign_up(db: Db, sign_up_id: UUID, link_digest: bytes, now: datetime) -> None:
    """Put a new link in place of the one before."""
    await db.execute(QUERIES["renew_sign_up"], sign_up_id, link_digest, now)


async def use_sign_up(db: Db, sign_up_id: UUID, now: datetime) -> None:
    """Note that a link was followed."""
    await db.execute(QUERIES["use_sign_up"], sign_up_id, now)


async def insert_session(db: Db, new: NewSession) -> None:
    """Write a session."""
    await db.execute(QUERIES["insert_session"], *msgspec.structs.astuple(new))


async def find_session(db: Db, token_digest: bytes, *, now: datetime, seen_after: datetime) -> Session | None:
    """Read a session that is not over."""
    row = await db.fetchrow(QUERIES["find_session"], token_digest, now, seen_after)
    return _session(row) if row else None


async def list_sessions(db: Db, person_id: UUID, *, now: datetime, seen_after: datetime) -> list[Session]:
    """Read the sessions of somebody that are not over."""
    rows = await db.fetch(QUERIES["list_sessions"], person_id, now, seen_after)
    return [_session(row) for row in rows]


async def touch_session(db: Db, session_id: UUID, now: datetime) -> None:
    """Note that a session was used."""
    await db.execute(QUERIES["touch_session"], session_id, now)


async def confirm_session(db: Db, session_id: UUID, now: datetime) -> None:
    """Note that somebody has proved again who they are."""
    await db.execute(QUERIES["confirm_session"], session_id, now)


async def end_session(db: Db, session_id: UUID, person_id: UUID, now: datetime) -> bool:
    """End one session of somebody; ``False`` if it is not theirs or over already."""
    return await db.fetchval(QUERIES["end_session"], session_id, person_id, now) is not None


async def end_sessions(db: Db, person_id: UUID, now: datetime, *, but: UUID | None) -> None:
    """End all sessions of somebody, but for one."""
    await db.execute(QUERIES["end_sessions"], person_id, but, now)


async def count_resets(db: Db, person_id: UUID, since: datetime) -> int:
    """Count the reset links of somebody."""
    return int(await db.fetchval(QUERIES["count_resets"], person_id, since))


async def insert_reset(
    db: Db, link_digest: bytes, person_id: UUID, *, now: datetime, expires_at: datetime
) -> None:
    """Write a reset link."""
    await db.execute(QUERIES["insert_reset"], link_digest, person_id, now, expires_at)


async def find_reset(db: Db, link_digest: bytes, now: datetime) -> UUID | None:
    """Find whose reset link it is."""
    found: UUID | None = await db.fetchval(QUERIES["find_reset"], link_digest, now)
    return found


async def use_resets(db: Db, person_id: UUID, now: datetime) -> None:
    """Note that a reset link of somebody was used."""
    await db.execute(QUERIES["use_resets"], person_id, now)


async def begin_second_factor(db: Db, person_id: UUID, nonce: bytes, version: int) -> None:
    """Prepare a second factor."""
    await db.execute(QUERIES["begin_second_factor"], person_id, nonce, version)


async def set_second_factor(db: Db, person_id: UUID, since: datetime, step: int) -> None:
    """Ask for the second factor from now on."""
    await db.execute(QUERIES["set_second_factor"], person_id, since, step)


async def remove_second_factor(db: Db, person_id: UUID) -> None:
    """Ask for the second factor no more."""
    await db.execute(QUERIES["remove_second_factor"], person_id)
    await db.execute(QUERIES["delete_recovery_codes"], person_id)


async def use_step(db: Db, person_id: UUID, step: int) -> None:
    """Note that the code of a time step was used."""
    await db.execute(QUERIES["use_step"], person_id, step)


async def replace_recovery_codes(db: Db, person_id: UUID, digests: Sequence[bytes]) -> None:
    """Put new recovery codes in place of the ones before."""
    await db.execute(QUERIES["delete_recovery_codes"], person_id)
    await db.execute(QUERIES["insert_recovery_codes"], person_id, digests)


async def use_recovery_code(db: Db, person_id: UUID, digests: Sequence[bytes], now: datetime) -> bool:
    """Use a recovery code; ``False`` if it is none or used already."""
    return await db.fetchval(QUERIES["use_recovery_code"], person_id, digests, now) is not None


async def count_recovery_codes(db: Db, person_id: UUID) -> int:
    """Count the recovery codes that somebody has left."""
    return int(await db.fetchval(QUERIES["count_recovery_codes"], person_id))


async def clear(db: Db, before: datetime) -> None:
    """Forget what ended before a moment."""
    for name in ("clear_sign_ups", "clear_used_sign_ups", "clear_sessions", "clear_resets", "clear_attempts"):
        await db.execute(QUERIES[name], before)


def _person(row: Row) -> Person:
    return Person(
        person_id=row["person_id"],
        account_id=row["account_id"],
        email=row["email"],
        language=Language(row["language"]) if row["language"] else None,
        created_at=row["created_at"],
        password_changed_at=row["password_changed_at"],
        second_factor_since=row["totp_since"],
    )


def _locks(row: Row) -> Locks:
    return Locks(
        password_hash=row["password_hash"],
        totp_nonce=row["totp_nonce"],
        totp_version=row["totp_version"],
        totp_last_step=row["totp_last_step"],
        closed=row["closed_at"] is not None,
    )


def _sign_up(row: Row) -> SignUp:
    return SignUp(
        sign_up_id=row["sign_up_id"],
        browser_digest=row["browser_digest"],
        email=row["email"],
        password_hash=row["password_hash"],
        language=Language(row["language"]),
        mailed_at=row["mailed_at"],
        mails=row["mails"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )


def _session(row: Row) -> Session:
    return Session(
        session_id=row["session_id"],
        person=_person(row),
        stage=Stage(row["stage"]),
        network=row["network"],
        agent=row["agent"],
        created_at=row["session_created_at"],
        seen_at=row["seen_at"],
        confirmed_at=row["confirmed_at"],
    )
