"""An account in dollars buys a flat plan, a dearer one, and a month: every cent is on its invoice and its statement."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.invoices import store
from billing.invoices.statement_csv import statement_csv
from billing.invoices.statements import statement_of
from billing.subscriptions.service import offers_to
from gateway.accounts import service as accounts
from gateway.ids import uuid7
from gateway.units import Currency
from tests.plugins.cast import Person

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
REST_OF_NOVEMBER = {"basic": 26, "standard": 105, "pro": 264}
"""Cents for 7 days and 22 hours of November's 30 days, half a cent up."""


@pytest.fixture
async def dana(shop) -> Person:
    """Dana, who is billed in dollars."""
    account = await accounts.create(
        shop.db, shop.clock, email="dana@example.com", plan_id="free", currency=Currency.USD
    )
    return Person("dana@example.com", account.account_id, uuid7(), "")


async def invoices_of(shop, person):
    found = await store.list_invoices(shop.db, account_id=person.account_id, limit=10)
    return sorted((one.total, one.currency, one.status) for one in found)


@pytest.mark.parametrize(("plan", "cents"), REST_OF_NOVEMBER.items())
async def test_a_flat_plan_is_sold_in_dollars_for_its_share_of_the_month(shop, dana, plan, cents):
    account = await accounts.get(shop.db, dana.account_id)
    offers = {offer.plan.plan_id: offer for offer in await offers_to(shop.db, shop.clock, account)}
    assert offers[plan].now_minor == cents
    await shop.subscribed(dana, plan)
    assert await shop.standing(dana) == (plan, "active")
    assert await invoices_of(shop, dana) == [(cents, "usd", "paid")]


async def test_an_upgrade_its_invoices_and_the_statements_are_exact_in_dollars(shop, dana):
    await shop.subscribed(dana, "basic")
    await shop.subscriptions.change_plan(dana.account_id, "pro")
    assert await shop.standing(dana) == ("pro", "active")
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    basic, pro = REST_OF_NOVEMBER["basic"], REST_OF_NOVEMBER["pro"]
    assert await invoices_of(shop, dana) == [
        (basic, "usd", "paid"),
        (pro - basic, "usd", "paid"),
        (999, "usd", "paid"),
    ]
    november = await statement_of(shop.db, dana.account_id, "2026-11")
    assert november.currency is Currency.USD
    assert sorted(fee.amount_minor for fee in november.plan) == [-basic, basic, pro]
    assert (november.usage_minor, november.total_minor) == (0, pro)
    assert statement_csv(november).splitlines()[-1] == "total,,,,,,2.64,usd"
    december = await statement_of(shop.db, dana.account_id, "2026-12")
    assert ([fee.amount_minor for fee in december.plan], december.total_minor) == ([999], 999)
