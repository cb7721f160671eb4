"""Accounts in Postgres: made, changed, and their limits merged from the plan's and their own."""

import asyncio
from uuid import uuid4

import pytest

from gateway.accounts import service
from gateway.accounts.model import AccountNotFound, AccountStatus, EmailTaken, LimitName
from gateway.errors import InvalidValue
from gateway.plans.model import AccountLimits, PlanNotFound
from gateway.units import Currency


async def make(db, clock, email="sari@example.com", plan_id="free"):
    return await service.create(db, clock, email=email, plan_id=plan_id, currency=Currency.IDR)


async def test_an_account_starts_active_with_the_limits_of_its_plan(seeded, clock):
    account = await make(seeded, clock, email=" Sari@Example.com ")
    assert account.email == "sari@example.com"
    assert account.status is AccountStatus.ACTIVE
    assert account.created_at == clock.now()
    assert account.overrides == {}
    assert account.limits == AccountLimits(monthly_tokens=10_000, requests_per_minute=20, concurrency=20)


async def test_an_account_has_its_gate_from_its_first_moment(seeded, clock):
    account = await make(seeded, clock)
    assert (
        await seeded.fetchval("SELECT count(*) FROM quota_gate WHERE account_id = $1", account.account_id)
        == 1
    )


async def test_an_address_is_taken_once_however_it_is_written(seeded, clock):
    await make(seeded, clock)
    with pytest.raises(EmailTaken, match=r"sari@example\.com exists already"):
        await make(seeded, clock, email="SARI@example.com")


async def test_of_two_who_take_an_address_at_once_one_gets_it(seeded, clock):
    outcomes = await asyncio.gather(*(make(seeded, clock) for _ in range(5)), return_exceptions=True)
    assert sorted(isinstance(outcome, EmailTaken) for outcome in outcomes) == [False, True, True, True, True]


async def test_a_plan_that_is_not_there_is_refused_by_name(seeded, clock):
    with pytest.raises(PlanNotFound, match="'platinum'"):
        await make(seeded, clock, plan_id="platinum")
    account = await make(seeded, clock)
    with pytest.raises(PlanNotFound, match="'platinum'"):
        await service.set_plan(seeded, account.account_id, "platinum")


async def test_another_plan_brings_its_limits(seeded, sari):
    account = await service.set_plan(seeded, sari.account_id, "pro")
    assert account.plan_id == "pro"
    assert account.limits.monthly_tokens == 1_000_000


async def test_limits_are_set_lifted_and_given_back_one_by_one(seeded, sari):
    await service.set_limits(seeded, sari.account_id, overrides={LimitName.REQUESTS_PER_MINUTE: 600})
    account = await service.set_limits(
        seeded, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: None, LimitName.CONCURRENCY: 1_500}
    )
    assert account.limits == AccountLimits(monthly_tokens=None, requests_per_minute=600, concurrency=1_500)
    account = await service.set_limits(
        seeded, sari.account_id, overrides={}, removed=[LimitName.MONTHLY_TOKENS, LimitName.CONCURRENCY]
    )
    assert account.overrides == {LimitName.REQUESTS_PER_MINUTE: 600}
    assert account.limits == AccountLimits(monthly_tokens=10_000, requests_per_minute=600, concurrency=20)


async def test_own_limits_stay_when_the_plan_changes(seeded, sari):
    await service.set_limits(seeded, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: 42})
    account = await service.set_plan(seeded, sari.account_id, "enterprise")
    assert account.limits == AccountLimits(monthly_tokens=42)


async def test_a_limit_out_of_range_changes_nothing(seeded, sari):
    with pytest.raises(InvalidValue, match="tokens_per_minute"):
        await service.set_limits(seeded, sari.account_id, overrides={LimitName.TOKENS_PER_MINUTE: 10**9})
    assert (await service.get(seeded, sari.account_id)).overrides == {}


async def test_who_is_not_there_cannot_be_changed(seeded):
    nobody = uuid4()
    for change in (
        service.get(seeded, nobody),
        service.set_plan(seeded, nobody, "free"),
        service.set_status(seeded, nobody, AccountStatus.SUSPENDED),
        service.set_limits(seeded, nobody, overrides={}),
    ):
        with pytest.raises(AccountNotFound, match=str(nobody)):
            await change


async def test_changing_one_account_leaves_the_other_alone(seeded, sari, budi):
    await service.set_status(seeded, sari.account_id, AccountStatus.SUSPENDED)
    await service.set_limits(seeded, sari.account_id, overrides={LimitName.CONCURRENCY: 1})
    other = await service.get(seeded, budi.account_id)
    assert (other.status, other.overrides) == (AccountStatus.ACTIVE, {})


async def test_accounts_are_listed_in_pages_oldest_first(seeded, sari, budi):
    (first,) = await service.list_accounts(seeded, after=None, limit=1)
    (second,) = await service.list_accounts(seeded, after=first.account_id, limit=10)
    assert [first.email, second.email] == [sari.email, budi.email]
