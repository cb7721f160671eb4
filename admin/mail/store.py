"""The outbox of mail in Postgres."""

from datetime import datetime
from uuid import UUID

from admin.mail.model import Letter, Mail
from gateway.db.pool import Db, Row
from gateway.db.queries import load_queries

QUERIES = load_queries("admin.mail")


async def insert_mail(db: Db, mail_id: UUID, address: str, letter: Letter, now: datetime) -> None:
    """Write a letter."""
    await db.execute(QUERIES["insert_mail"], mail_id, address, letter.subject, letter.body, now)


async def take_due(db: Db, now: datetime, limit: int) -> list[Mail]:
    """Take letters whose time has come; each waits longer after every attempt."""
    return [_mail(row) for row in await db.fetch(QUERIES["take_due"], now, limit)]


async def mark_sent(db: Db, mail_id: UUID, now: datetime) -> None:
    """Note that a letter is gone."""
    await db.execute(QUERIES["mark_sent"], mail_id, now)


async def give_up(db: Db, mail_id: UUID, now: datetime) -> None:
    """Note that a letter cannot be delivered."""
    await db.execute(QUERIES["give_up"], mail_id, now)


async def list_latest(db: Db, limit: int) -> list[Mail]:
    """Read the latest letters."""
    return [_mail(row) for row in await db.fetch(QUERIES["list_latest"], limit)]


async def clear(db: Db, before: datetime) -> None:
    """Forget letters of long ago."""
    await db.execute(QUERIES["clear"], before)


def _mail(row: Row) -> Mail:
    return Mail(
        mail_id=row["mail_id"],
        address=row["address"],
        letter=Letter(row["subject"], row["body"]),
        created_at=row["created_at"],
        attempts=row["attempts"],
    )
