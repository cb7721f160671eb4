"""Mail is sent once it is committed, tried again when it fails, and forgotten when it is gone."""

import asyncio
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Self

import pytest

from admin.jobs import forget
from admin.mail import service, store
from admin.mail.model import Letter
from admin.mail.smtp import SmtpDelivery

LETTER = Letter("Selamat datang, 欢迎", "Halo,\n\nhttp://127.0.0.1:8081/verify?token=abc\n")


class Refusing:
    """A delivery that fails."""

    def __init__(self) -> None:
        self.tried = 0

    async def __call__(self, _mail) -> None:
        self.tried += 1
        raise OSError("the server is away")


class Postbox:
    """A mail server that speaks as much SMTP as it takes to receive a letter."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.recipients: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer) -> None:
        writer.write(b"220 postbox\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
            elif verb == b"RCPT":
                self.recipients.append(line.decode().strip())
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            await writer.drain()
            if verb == b"QUIT":
                break
        writer.close()


async def state(db):
    row = await db.fetchrow("SELECT attempts, sent_at, gave_up_at, body FROM mail_outbox")
    return row["attempts"], row["sent_at"] is not None, row["gave_up_at"] is not None, bool(row["body"])


async def test_a_letter_whose_transaction_fails_is_never_sent(db, clock):
    async def post_and_fail() -> None:
        async with db.acquire() as connection, connection.transaction():
            await service.post(connection, clock, "sari@example.com", LETTER)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await post_and_fail()
    assert await service.send_due(db, clock, Refusing()) == 0


async def test_a_letter_arrives_and_its_text_is_forgotten(db, clock):
    await service.post(db, clock, "sari@example.com", LETTER)
    async with Postbox() as postbox:
        delivery = SmtpDelivery(f"smtp://127.0.0.1:{postbox.port}", "Nusagate <no-reply@example.com>")
        assert await service.send_due(db, clock, delivery) == 1
        assert await service.send_due(db, clock, delivery) == 0
    message = message_from_bytes(postbox.messages[0], policy=default)
    assert (message["To"], message["From"]) == ("sari@example.com", "Nusagate <no-reply@example.com>")
    assert message["Subject"] == LETTER.subject
    assert message["Message-ID"].endswith("@example.com>")
    assert "http://127.0.0.1:8081/verify?token=abc" in message.get_content()
    assert postbox.recipients == ["rcpt TO:<sari@example.com>"]
    assert await state(db) == (1, True, False, False)


async def test_a_letter_that_fails_is_tried_again_later_and_then_given_up(db, clock):
    await service.post(db, clock, "sari@example.com", LETTER)
    refusing = Refusing()
    tried = []
    for minutes in (0, 1, 1, 2, 4, 8, 16, 32, 64, 64):
        clock.move(timedelta(minutes=minutes))
        await service.send_due(db, clock, refusing)
        tried.append(refusing.tried)
    assert tried == [1, 2, 2, 3, 4, 5, 6, 7, 8, 8]
    assert await state(db) == (8, False, True, False)


async def test_one_address_that_fails_holds_up_no_other(db, clock):
    await service.post(db, clock, "bad@example.com", LETTER)
    await service.post(db, clock, "sari@example.com", LETTER)

    async def deliver(mail) -> None:
        if mail.address == "bad@example.com":
            raise OSError

    assert await service.send_due(db, clock, deliver) == 1


async def test_a_password_is_not_sent_to_a_server_without_tls(db, clock):
    await service.post(db, clock, "sari@example.com", LETTER)
    async with Postbox() as postbox:
        delivery = SmtpDelivery(f"smtp://user:secret@127.0.0.1:{postbox.port}", "no-reply@example.com")
        assert await service.send_due(db, clock, delivery) == 0
    assert postbox.messages == []


async def test_two_workers_send_a_letter_once(db, clock):
    for number in range(10):
        await service.post(db, clock, f"sari{number}@example.com", LETTER)
    taken = await asyncio.gather(*(store.take_due(db, clock.now(), 5) for _ in range(4)))
    addresses = [mail.address for mails in taken for mail in mails]
    assert len(addresses) == len(set(addresses)) == 10


async def test_what_ended_long_ago_is_forgotten(portal):
    await portal.browser().join("sari@example.com")
    await portal.browser(network="192.0.2.2").login("sari@example.com", "a wrong password")
    await portal.browser().post("/reset", email="sari@example.com")
    tables = ("sign_up", "portal_session", "password_reset", "guess_delay", "mail_outbox")

    async def counted():
        return [await portal.db.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    before = await counted()
    assert all(before)
    await forget(portal.db, portal.clock, 35)
    assert await counted() == before
    portal.clock.move(timedelta(days=66))
    await forget(portal.db, portal.clock, 35)
    # That the mailbox has its account is all that is kept of a sign-up.
    assert await counted() == [1, 0, 0, 0, 0]
    assert tuple(
        await portal.db.fetchrow("SELECT email, network, password_hash, used_at IS NULL FROM sign_up")
    ) == ("", "", "", False)
