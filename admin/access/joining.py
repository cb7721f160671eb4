"""Signing up: asking for an account, and following the link of the mail.

Nobody exists before the link was followed. A known address gets the same answer and another mail. The password that
counts is the one of the sign-up whose link is followed; in another browser than the one that signed up it is asked
for again, so that nobody can be given an account with a password that somebody else chose.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from admin.access import delays, store, trail
from admin.access.door import Caller, Door
from admin.access.keyring import Purpose, new_token, token_digest
from admin.access.mailboxes import check_host, mailbox_of
from admin.access.model import (
    AddressRefused,
    Language,
    LinkRefused,
    PasswordNeeded,
    Person,
    SignUp,
    SignUpsPaused,
    TooManySignUps,
    TooSoon,
)
from admin.access.passwords import check_password
from admin.mail import letters
from admin.mail import service as mail
from gateway.accounts import service as accounts
from gateway.accounts.model import EmailTaken, normalise_email
from gateway.clock import month_of, month_start
from gateway.db.pool import Connection, Db
from gateway.errors import InvalidValue
from gateway.ids import uuid7
from gateway.plans import service as plans
from gateway.units import Currency

FREE_PLAN = "free"
CURRENCY = Currency.IDR
A_DAY = timedelta(days=1)
A_MONTH = timedelta(days=31)


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-up that was checked, its password hashed."""

    email: str
    password_hash: str
    language: Language
    caller: Caller

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return "Application(…)"


async def prepare(
    door: Door, db: Db, *, email: str, password: str, language: Language, caller: Caller
) -> Application:
    """Check what somebody typed and hash the password, which takes as long for a known address.

    ``AddressRefused``, ``PasswordRefused``, or what ``apply`` would refuse: a network that asks too
    often gets no hash computed either.
    """
    try:
        address = normalise_email(email)
    except InvalidValue:
        raise AddressRefused("This is not an e-mail address.", param="email") from None
    check_host(address)
    text = check_password(password, email=address, second_factor=False)
    await _check_network(door, db, caller)
    await check_budget(door, db)
    return Application(
        email=address, password_hash=await door.hasher.hash(text), language=language, caller=caller
    )


async def apply(door: Door, connection: Connection, application: Application) -> None:
    """Write a sign-up down and mail its link; the caller holds the transaction.

    ``TooManySignUps`` for a network, ``SignUpsPaused`` where the free budget is given away. A mailbox that asked too
    often gets no more mail, and the same answer.
    """
    now = door.clock.now()
    await _check_network(door, connection, application.caller)
    await check_budget(door, connection)
    digests = mailbox_digests(door, application.email)
    token, sign_up_id = new_token(), uuid7()
    await store.insert_sign_up(
        connection,
        store.NewSignUp(
            sign_up_id=sign_up_id,
            link_digest=token_digest(token),
            browser_digest=token_digest(application.caller.browser_token),
            mailbox_digest=digests[0],
            email=application.email,
            network=application.caller.network,
            password_hash=application.password_hash,
            language=application.language,
            created_at=now,
            expires_at=now + timedelta(hours=door.limits.link_hours),
        ),
    )
    await _mail_link(
        door, connection, sign_up_id, token, email=application.email, language=application.language
    )


async def resend(door: Door, connection: Connection, caller: Caller) -> None:
    """Mail a new link for what this browser asked for; the caller holds the transaction.

    ``TooSoon`` within a minute of the mail before, ``LinkRefused`` where there is nothing to resend.
    """
    now = door.clock.now()
    sign_up = await store.lock_sign_up_of_browser(connection, token_digest(caller.browser_token))
    if sign_up is None or not _is_open(sign_up, now) or sign_up.mails >= door.limits.mails_per_sign_up:
        raise LinkRefused
    wait_s = door.limits.resend_after_s - int((now - sign_up.mailed_at).total_seconds())
    if wait_s > 0:
        raise TooSoon(wait_s=wait_s)
    token = new_token()
    await store.renew_sign_up(connection, sign_up.sign_up_id, token_digest(token), now)
    await _mail_link(
        door, connection, sign_up.sign_up_id, token, email=sign_up.email, language=sign_up.language
    )


async def waiting(db: Db, caller: Caller) -> SignUp | None:
    """Return what this browser asked for last and has not got yet."""
    sign_up = await store.lock_sign_up_of_browser(db, token_digest(caller.browser_token))
    return sign_up if sign_up is not None and sign_up.used_at is None else None


async def admit(door: Door, db: Db, caller: Caller, token: str, password: str | None) -> None:
    """See that whoever follows a link may: the browser that signed up, or somebody who knows the password.

    ``PasswordNeeded`` where it was not given, ``TooSoon`` for guessing. ``db`` is outside any transaction.
    """
    sign_up = await store.lock_sign_up_of_link(db, token_digest(token))
    if sign_up is None or not _is_open(sign_up, door.clock.now()):
        raise LinkRefused
    if sign_up.browser_digest == token_digest(caller.browser_token):
        return
    if not password:
        raise PasswordNeeded
    await delays.attempt(db, door.keyring, delays.NETWORK, caller.network, door.clock.now())
    if not await door.hasher.verify(password, sign_up.password_hash):
        raise PasswordNeeded("This is not the password that you chose when you signed up.", param="password")
    await delays.forgive(db, door.keyring, delays.NETWORK, caller.network)


async def complete(door: Door, connection: Connection, token: str) -> Person:
    """Make the person and the account of a link that was admitted; the caller holds the transaction.

    An account that an operator made for the address before becomes the person's. ``LinkRefused``, also where the
    mailbox has had its account, and ``SignUpsPaused`` where the free budget was given away meanwhile: the link stays
    good then.
    """
    now = door.clock.now()
    sign_up = await store.lock_sign_up_of_link(connection, token_digest(token))
    if sign_up is None or not _is_open(sign_up, now):
        raise LinkRefused
    account_id = await _account_of(door, connection, sign_up.email)
    await store.use_sign_up(connection, sign_up.sign_up_id, now)
    if not await store.insert_person(connection, uuid7(), account_id, sign_up=sign_up, now=now):
        raise LinkRefused
    found = await store.find_person(connection, sign_up.email)
    assert found is not None
    await trail.keep(connection, door.clock, found[0], "account:join")
    return found[0]


async def _account_of(door: Door, connection: Connection, email: str) -> UUID:
    account_id = await store.find_account_of(connection, email)
    if account_id is not None:
        return account_id
    await store.hold_sign_ups(connection)
    if await _has_had_its_account(door, connection, email):
        raise LinkRefused
    await check_budget(door, connection)
    try:
        account = await accounts.create(
            connection, door.clock, email=email, plan_id=FREE_PLAN, currency=CURRENCY
        )
    except EmailTaken as error:
        raise LinkRefused from error
    return account.account_id


def mailbox_digests(door: Door, email: str) -> list[bytes]:
    """Return what is stored of the mailbox that an address reaches, under the newest secret first."""
    value = mailbox_of(email).encode()
    newest = door.keyring.digest(Purpose.MAILBOX, value)
    return [newest, *(digest for digest in door.keyring.digests(Purpose.MAILBOX, value) if digest != newest)]


async def check_budget(door: Door, db: Db) -> None:
    """See that one more free account fits into the budget of the free plan; ``SignUpsPaused``.

    The budget is compared with what all free accounts together may use, so it holds without a look at what each
    request takes. See docs/adr/0011-free-budget-at-the-door.md.
    """
    if door.free_budget_tokens is None:
        return
    plan = await plans.get_plan(db, FREE_PLAN)
    each = plan.limits.monthly_tokens
    if each is None:
        raise SignUpsPaused
    month_began = month_start(month_of(door.clock.now()))
    promised = await store.sum_promised_tokens(db, FREE_PLAN, each, month_began)
    if promised + each > door.free_budget_tokens:
        raise SignUpsPaused


async def _check_network(door: Door, db: Db, caller: Caller) -> None:
    asked = await store.count_sign_ups_of_network(db, caller.network, door.clock.now() - A_DAY)
    if asked >= door.limits.sign_ups_per_network_daily:
        raise TooManySignUps


async def _may_have_one(door: Door, db: Db, email: str) -> bool:
    if await store.find_account_of(db, email) is not None:
        return True
    return not await _has_had_its_account(door, db, email)


async def _has_had_its_account(door: Door, db: Db, email: str) -> bool:
    """Tell whether a mailbox has its account, under whatever spelling and also when it was closed meanwhile."""
    used = await store.count_accounts_of_mailbox(db, mailbox_digests(door, email))
    return used >= door.limits.accounts_per_mailbox


async def _mail_link(
    door: Door, connection: Connection, sign_up_id: UUID, token: str, *, email: str, language: Language
) -> None:
    """Mail what belongs to a sign-up, unless its mailbox was asked for too often before it."""
    digests = mailbox_digests(door, email)
    before = await store.count_sign_ups_before(connection, sign_up_id, digests, A_MONTH)
    if before >= door.limits.sign_ups_per_mailbox_monthly:
        return
    found = await store.find_person(connection, email)
    login = f"{door.public_url}/login"
    if found is not None and not found[1].closed:
        letter = letters.known_address(language, login, f"{door.public_url}/reset")
    elif await _may_have_one(door, connection, email):
        letter = letters.verify(language, f"{door.public_url}/verify?token={token}", door.limits.link_hours)
    else:
        letter = letters.used_mailbox(language, login)
    await mail.post(connection, door.clock, email, letter)


def _is_open(sign_up: SignUp, now: datetime) -> bool:
    return sign_up.used_at is None and sign_up.expires_at > now
