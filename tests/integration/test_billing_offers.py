"""What a page says that a plan costs is what Stripe then charges, to the minor unit, for every way from plan to plan."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.subscriptions import catalogue
from billing.subscriptions.offers import Step
from billing.subscriptions.service import offers_to
from gateway.accounts import service as accounts
from gateway.units import Currency

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


async def offered(shop, person):
    account = await accounts.get(shop.db, person.account_id)
    return {offer.plan.plan_id: offer for offer in await offers_to(shop.db, shop.clock, account)}


async def steps(shop, person):
    return {plan_id: offer.step.value for plan_id, offer in (await offered(shop, person)).items()}


def charged(shop):
    """The total of the latest invoice at Stripe, and how many there are."""
    invoices = shop.get("/v1/invoices?limit=100")["data"]
    return invoices[0]["total"], len(invoices)


@pytest.mark.parametrize("moved", [{}, {"days": 7, "hours": 21, "minutes": 3}])
@pytest.mark.parametrize("plan", ["basic", "standard", "pro", "payg"])
async def test_a_first_plan_costs_what_was_said(shop, sari, plan, moved):
    shop.move_to(shop.clock.now() + timedelta(**moved, seconds=17))
    offer = (await offered(shop, sari))[plan]
    assert offer.step is Step.BUY
    await shop.subscribed(sari, plan)
    assert charged(shop) == (offer.now_minor, 1)


@pytest.mark.parametrize(
    ("before", "after"), [("basic", "standard"), ("basic", "pro"), ("standard", "pro"), ("payg", "standard")]
)
async def test_a_dearer_plan_costs_what_was_said(shop, sari, before, after):
    await shop.subscribed(sari, before)
    shop.move(hours=37, minutes=11, seconds=5)
    offer = (await offered(shop, sari))[after]
    assert offer.step is (Step.FROM_METERED if before == "payg" else Step.DEARER)
    await shop.subscriptions.change_plan(sari.account_id, after)
    assert charged(shop) == (offer.now_minor, 2)


async def test_a_cheaper_plan_costs_nothing_now_and_is_shown_as_the_next_one(shop, sari):
    await shop.subscribed(sari, "standard")
    offer = (await offered(shop, sari))["basic"]
    assert (offer.step, offer.now_minor, offer.begins_at) == (Step.CHEAPER, 0, DECEMBER)
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    found = await offered(shop, sari)
    assert (found["basic"].step, found["basic"].is_next) == (Step.NOTHING, True)
    assert (found["standard"].step, found["standard"].is_current) == (Step.BACK, True)
    dearer = found["pro"]
    await shop.subscriptions.change_plan(sari.account_id, "pro")
    assert charged(shop) == (dearer.now_minor, 2)


PRICE = "UPDATE plan_price SET monthly_amount_micro = $2 WHERE plan_id = $1 AND currency = 'idr'"


async def test_who_bought_at_an_old_price_is_shown_and_charged_the_difference_to_that(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.db.execute(PRICE, "basic", 20_000 * 10**6)
    await catalogue.setup(shop.db, shop.clock, shop.stripe)
    said = (await offered(shop, sari))["standard"].now_minor
    await shop.subscriptions.change_plan(sari.account_id, "standard")
    assert charged(shop) == (said, 2)


async def test_an_old_price_that_is_held_is_what_a_dearer_plan_is_charged_from(shop, sari):
    await shop.subscribed(sari, "standard")
    await shop.db.execute(PRICE, "standard", 70_000 * 10**6)
    await catalogue.setup(shop.db, shop.clock, shop.stripe)
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    said = (await offered(shop, sari))["pro"].now_minor
    await shop.subscriptions.change_plan(sari.account_id, "pro")
    assert charged(shop) == (said, 2)


async def test_a_plan_that_is_not_sold_any_more_can_be_left(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.db.execute("DELETE FROM plan_price WHERE plan_id = 'basic'")
    await catalogue.setup(shop.db, shop.clock, shop.stripe)
    found = await offered(shop, sari)
    assert (found["basic"].step, found["standard"].step) == (Step.NOT_SOLD, Step.DEARER)
    await shop.subscriptions.change_plan(sari.account_id, "standard")
    assert charged(shop) == (found["standard"].now_minor, 2)
    assert await shop.standing(sari) == ("standard", "active")


async def test_every_way_has_its_name(shop, sari):
    assert await steps(shop, sari) == {
        "free": "nothing", "basic": "buy", "standard": "buy", "pro": "buy", "payg": "buy",
    }  # fmt: skip
    await shop.subscribed(sari, "standard")
    assert await steps(shop, sari) == {
        "free": "cancel", "basic": "cheaper", "standard": "nothing", "pro": "dearer", "payg": "to_metered",
    }  # fmt: skip
    await shop.subscriptions.cancel(sari.account_id)
    found = await offered(shop, sari)
    assert (found["free"].step, found["free"].is_next) == (Step.NOTHING, True)
    await shop.subscriptions.change_plan(sari.account_id, "payg")
    assert await steps(shop, sari) == {
        "free": "cancel", "basic": "from_metered", "standard": "from_metered", "pro": "from_metered",
        "payg": "nothing",
    }  # fmt: skip


async def test_a_plan_without_a_price_in_the_currency_is_not_sold(shop):
    await shop.db.execute("DELETE FROM plan_price WHERE currency = 'usd' AND plan_id = 'basic'")
    account = await accounts.create(
        shop.db, shop.clock, email="usd@example.com", plan_id="free", currency=Currency.USD
    )
    found = {offer.plan.plan_id: offer.step for offer in await offers_to(shop.db, shop.clock, account)}
    assert (found["basic"], found["standard"]) == (Step.NOT_SOLD, Step.BUY)
    assert found["payg"] is Step.BUY


async def test_before_prices_are_set_up_nothing_is_sold(seeded, clock, sari):
    account = await accounts.get(seeded, sari.account_id)
    found = {offer.plan.plan_id: offer.step for offer in await offers_to(seeded, clock, account)}
    assert found == {
        "free": Step.NOTHING,
        **dict.fromkeys(("basic", "standard", "pro", "payg"), Step.NOT_SOLD),
    }
