"""Mail before the month's tokens are used up: at the percents that were chosen, once each, in the owner's language."""

import pytest

from billing.caps import alerts
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus, LimitName
from gateway.errors import InvalidValue


async def use(db, person, tokens, period="2026-11"):
    """Let an account have used so many tokens in a month."""
    await db.execute(
        "INSERT INTO quota_counter (account_id, subject_id, period, used_tokens) VALUES ($1, $1, $2, $3) "
        "ON CONFLICT (account_id, subject_id, period) DO UPDATE SET used_tokens = $3",
        person.account_id, period, tokens,
    )  # fmt: skip


async def subjects(db):
    rows = await db.fetch("SELECT subject FROM mail_outbox ORDER BY created_at, mail_id")
    return [row["subject"] for row in rows]


async def test_each_share_of_the_months_tokens_sends_one_mail(seeded, clock, sari):
    for tokens in (4_000, 4_999, 5_000, 7_500, 8_000, 9_000, 10_000, 10_000):
        await use(seeded, sari, tokens)
        await alerts.warn_of_plans(seeded, clock)
    assert await subjects(seeded) == [
        "50 % of this month's tokens are used",
        "80 % of this month's tokens are used",
        "This month's tokens are used up",
    ]


async def test_with_room_for_hardly_a_request_left_the_tokens_count_as_used_up(seeded, clock, sari):
    await use(seeded, sari, 9_800)
    await alerts.warn_of_plans(seeded, clock)
    assert await subjects(seeded) == ["This month's tokens are used up"]
    body = await seeded.fetchval("SELECT body FROM mail_outbox")
    assert "has used 9,800 of the 10,000 tokens" in body
    assert "until 2026-12-01T00:00:00Z, and nothing is billed" in body


async def test_only_what_was_chosen_is_sent(seeded, clock, sari, budi):
    await alerts.choose(seeded, clock, sari.account_id, [80])
    await alerts.choose(seeded, clock, budi.account_id, [])
    assert await alerts.choice(seeded, sari.account_id) == (80,)
    assert await alerts.choice(seeded, budi.account_id) == ()
    for tokens in (6_000, 8_500, 10_000):
        await use(seeded, sari, tokens)
        await use(seeded, budi, tokens)
        await alerts.warn_of_plans(seeded, clock)
    assert await subjects(seeded) == ["80 % of this month's tokens are used"]


async def test_a_new_month_begins_anew(seeded, clock, sari):
    await use(seeded, sari, 5_000)
    await alerts.warn_of_plans(seeded, clock)
    clock.moment = clock.moment.replace(month=12)
    await alerts.warn_of_plans(seeded, clock)
    await use(seeded, sari, 6_000, "2026-12")
    await alerts.warn_of_plans(seeded, clock)
    assert len(await subjects(seeded)) == 2


async def test_the_limit_that_is_in_force_counts(seeded, clock, sari, budi):
    await accounts.set_limits(seeded, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: 100_000})
    await accounts.set_limits(seeded, budi.account_id, overrides={LimitName.MONTHLY_TOKENS: None})
    await use(seeded, sari, 9_900)
    await use(seeded, budi, 9_900)
    await alerts.warn_of_plans(seeded, clock)
    assert await subjects(seeded) == []


async def test_an_account_that_is_stopped_is_not_warned(seeded, clock, sari):
    await accounts.set_status(seeded, sari.account_id, AccountStatus.SUSPENDED)
    await use(seeded, sari, 9_000)
    await alerts.warn_of_plans(seeded, clock)
    assert await subjects(seeded) == []


async def test_a_page_of_accounts_follows_another(seeded, clock, sari, budi, monkeypatch):
    monkeypatch.setattr(alerts, "PAGE", 1)
    await use(seeded, sari, 5_000)
    await use(seeded, budi, 8_000)
    await alerts.warn_of_plans(seeded, clock)
    assert sorted(await subjects(seeded)) == [
        "50 % of this month's tokens are used",
        "80 % of this month's tokens are used",
    ]


async def test_a_share_that_there_is_not_is_refused(seeded, clock, sari):
    with pytest.raises(InvalidValue):
        await alerts.choose(seeded, clock, sari.account_id, [50, 60])
    assert await alerts.choice(seeded, sari.account_id) == (100, 80, 50)
