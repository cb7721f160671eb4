"""Posting letters in the transaction that causes them, and sending what is due."""

import asyncio
from collections.abc import Awaitable, Callable

from admin.mail import store
from admin.mail.model import Letter, Mail
from gateway.clock import Clock
from gateway.db.pool import Db
from gateway.ids import uuid7
from gateway.runtime.logging import describe, get_logger

log = get_logger("mail")

AT_ONCE_MAX = 20
ATTEMPTS_MAX = 8
"""Waits of 1, 2, 4 … 64 minutes between them: about two hours, longer than any link in a mail is useful."""

Deliver = Callable[[Mail], Awaitable[None]]


async def post(db: Db, clock: Clock, address: str, letter: Letter) -> None:
    """Write a letter into the outbox; it is sent if and only if the caller's transaction commits."""
    await store.insert_mail(db, uuid7(), address, letter, clock.now())


async def send_due(db: Db, clock: Clock, deliver: Deliver) -> int:
    """Send what is due and return how many letters went; what fails is tried again later, then given up."""
    mails = await store.take_due(db, clock.now(), AT_ONCE_MAX)
    sent = await asyncio.gather(*(_send(db, clock, mail, deliver) for mail in mails))
    return sum(sent)


async def _send(db: Db, clock: Clock, mail: Mail, deliver: Deliver) -> bool:
    try:
        await deliver(mail)
    except Exception as error:  # one address that refuses must not hold up the others
        log.warning("mail failed", attempt=mail.attempts, **describe(error))
        if mail.attempts >= ATTEMPTS_MAX:
            await store.give_up(db, mail.mail_id, clock.now())
        return False
    await store.mark_sent(db, mail.mail_id, clock.now())
    return True
