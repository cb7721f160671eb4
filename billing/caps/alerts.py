"""Mail before a limit is reached, at the percents that an account's owner chose, each once a month.

It warns of a cap and of the month's tokens of a plan. It only warns: what stops requests is admission.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from billing.caps import store
from billing.caps.letters import Letter, cap_letter, plan_letter
from billing.caps.model import (
    THRESHOLDS,
    PlanUse,
    Reached,
    Spending,
    passed,
    plan_reached,
    reached,
)
from gateway.clock import Clock, month_end, month_of
from gateway.db.pool import Connection, Db, Pool
from gateway.errors import InvalidValue
from gateway.ids import FIRST_UUID
from gateway.units import PICO_PER_MICRO, AmountPico, format_amount

PAGE = 500


async def choice(db: Db, account_id: UUID) -> tuple[int, ...]:
    """Return at which percents an account's owner wants mail, the highest first; all of them if nothing was chosen."""
    return await store.find_choice(db, account_id)


async def choose(db: Db, clock: Clock, account_id: UUID, percents: Collection[int]) -> None:
    """Choose at which percents there is mail; none is a choice, too. ``InvalidValue`` for one that there is not."""
    if not set(percents) <= set(THRESHOLDS):
        raise InvalidValue("Mail is sent at 50, 80 and 100 percent.", param="percents")
    await store.save_choice(db, account_id, set(percents), clock.now())


async def warn_of_plans(db: Pool, clock: Clock) -> None:
    """Send the mail that is due for the month's tokens of plans."""
    now, after = clock.now(), FIRST_UUID
    while page := await store.plan_use(db, period=month_of(now), after=after, limit=PAGE):
        for use in page:
            due = passed(plan_reached(use).percent, use.percents)
            if due:
                async with db.acquire() as connection, connection.transaction():
                    await _warn_of_plan(connection, use, due, now)
        after = page[-1].account_id


async def warn_of_cap(db: Pool, spending: Spending, now: datetime) -> None:
    """Send the mail that is due for the cap of an account."""
    for found in reached(spending):
        due = passed(found.percent, spending.percents)
        if due:
            async with db.acquire() as connection, connection.transaction():
                await _warn_of_cap(connection, spending, found, due, now)


async def _warn_of_plan(connection: Connection, use: PlanUse, due: list[int], now: datetime) -> None:
    letter = plan_letter(
        use.language,
        percent=due[0],
        used=f"{use.used_tokens:,}",
        limit=f"{use.limit_tokens:,}",
        resets_at=month_end(month_of(now)),
    )
    await _send(connection, use, "plan", due, letter=letter, now=now)


async def _warn_of_cap(
    connection: Connection, spending: Spending, found: Reached, due: list[int], now: datetime
) -> None:
    used, cap, unit = _amounts(spending, found.subject)
    letter = cap_letter(
        spending.language, percent=due[0], used=used, cap=cap, unit=unit, resets_at=month_end(month_of(now))
    )
    await _send(connection, spending, found.subject, due, letter=letter, now=now)


async def _send(
    connection: Connection,
    owner: PlanUse | Spending,
    subject: str,
    due: list[int],
    *,
    letter: Letter,
    now: datetime,
) -> None:
    """Send one letter for the highest threshold that was reached since the last one."""
    fresh = await store.note_alerts(
        connection, owner.account_id, period=month_of(now), subject=subject, percents=due, now=now
    )
    if due[0] in fresh:
        await store.post_mail(connection, owner.email, letter.subject, letter.body, now)


def _amounts(spending: Spending, subject: str) -> tuple[str, str, str]:
    """Write what was used, the cap and its unit for a letter."""
    assert spending.cap is not None
    if subject == "tokens":
        return f"{spending.used_tokens:,}", f"{spending.cap.monthly_tokens:,}", ""
    cap = AmountPico((spending.cap.monthly_micro or 0) * PICO_PER_MICRO)
    return format_amount(spending.billable_pico), format_amount(cap), spending.currency.upper()
