"""Delivering a letter by SMTP, in a thread, because the standard library's client blocks."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from admin.mail.model import Mail

TIMEOUT_S = 15
SUBMISSION_PORT = 587
TLS_PORT = 465


class SmtpDelivery:
    """Delivers letters to one server: ``smtps://`` speaks TLS from the start, ``smtp://`` upgrades if it is offered.

    A password is sent over TLS only.
    """

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (TLS_PORT if self._tls else SUBMISSION_PORT)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender = sender

    async def __call__(self, mail: Mail) -> None:
        """Deliver a letter; an ``OSError`` or ``SMTPException`` says that it did not arrive."""
        await asyncio.to_thread(self._deliver, compose(mail, self._sender))

    def _deliver(self, message: EmailMessage) -> None:
        context = ssl.create_default_context()
        if self._tls:
            with smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=context) as server:
                self._submit(server, message)
            return
        with smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S) as server:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif self._user:
                raise smtplib.SMTPNotSupportedError("the server offers no TLS, so the password is not sent")
            self._submit(server, message)

    def _submit(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        if self._user:
            server.login(self._user, self._password)
        server.send_message(message)


def compose(mail: Mail, sender: str) -> EmailMessage:
    """Write a letter as a message; its id is the same at every attempt, so that a double one can be recognised."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.address
    message["Subject"] = mail.letter.subject
    message["Message-ID"] = f"<{mail.mail_id}@{sender.rpartition('@')[2].rstrip('>')}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.letter.body)
    return message
