"""The background work of the faces: sending mail, and forgetting what has had its time."""

import os
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from admin.access import store as access_store
from admin.mail import store as mail_store
from admin.mail.service import send_due
from admin.mail.smtp import SmtpDelivery
from admin.settings import PortalLimits, read_smtp_url
from gateway.clock import Clock, SystemClock
from gateway.db.pool import Pool
from gateway.runtime.jobs import Job
from gateway.runtime.logging import get_logger
from gateway.runtime.settings import Settings, read_limits, read_optional

log = get_logger("mail")

SEND_EVERY_S = 2
FORGET_EVERY_S = 3_600


def admin_jobs(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Job[Pool]]:
    """List the jobs that a worker runs for the portal; mail is sent where ``NUSAGATE_SMTP_URL`` is set."""
    clock = SystemClock()
    kept_days = read_limits(environ, PortalLimits).kept_days
    jobs: list[Job[Pool]] = [Job("forget", FORGET_EVERY_S, lambda db: forget(db, clock, kept_days))]
    delivery = _delivery(settings, environ)
    if delivery is not None:
        jobs.append(Job("mail", SEND_EVERY_S, lambda db: send_due(db, clock, delivery)))
    return jobs


async def forget(db: Pool, clock: Clock, kept_days: int) -> None:
    """Delete mail, sign-ups, sessions and counts of guesses that ended long ago."""
    before = clock.now() - timedelta(days=kept_days)
    await access_store.clear(db, before)
    await mail_store.clear(db, before)


def _delivery(settings: Settings, environ: Mapping[str, str]) -> SmtpDelivery | None:
    given = read_optional(environ, "NUSAGATE_SMTP_URL")
    if given is None:
        log.warning("mail not sent", setting="NUSAGATE_SMTP_URL")
        return None
    public = urlsplit(settings.public_url)
    url = read_smtp_url(environ, public)
    if url is None:
        return None
    sender = read_optional(environ, "NUSAGATE_MAIL_FROM") or f"Nusagate <no-reply@{public.hostname}>"
    return SmtpDelivery(url, sender)
