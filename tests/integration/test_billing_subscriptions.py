"""Plans bought, changed, cancelled, failed to be paid for, and paid again, with the sandbox as Stripe."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.stripe.errors import StripeDeclined
from billing.subscriptions import catalogue, store
from billing.subscriptions.model import (
    AlreadySubscribed,
    CheckoutClosed,
    NoPriceForPlan,
    Notice,
    NotSubscribed,
)
from billing.subscriptions.refreshing import refresh_all
from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus
from gateway.errors import InvalidValue
from gateway.keys.cache import KeyCache
from gateway.keys.model import PaymentRequired
from gateway.keys.service import KeyService
from gateway.plans.model import PlanNotFound
from gateway.units import Currency
from tests.fakes.key_lookups import ENDLESS, listener_of, until
from tests.plugins.shop import DECLINED, FAILS_LATER, GOOD, URLS

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
GRACE_OVER = timedelta(hours=1, days=7)
"""An invoice is finalized an hour after the month began, and collected then."""


async def entitlement(shop, person):
    return await store.find_entitlement(shop.db, person.account_id)


def subscription_at_stripe(shop):
    [found] = shop.get("/v1/subscriptions?status=all")["data"]
    return found


def invoices_at_stripe(shop):
    return shop.get("/v1/invoices?limit=100")["data"][::-1]


# ------------------------------------------------------------------ what is for sale


async def test_setting_up_makes_each_price_once(shop):
    before = shop.get("/v1/prices?limit=100")["data"]
    again = await catalogue.setup(shop.db, shop.clock, shop.stripe)
    assert {price.price_id for price in again} == {price["id"] for price in before}
    assert len(shop.get("/v1/products?limit=100")["data"]) == 5
    assert len(shop.get("/v1/billing/meters")["data"]) == 2


async def test_amounts_are_exact_in_stripes_minor_units(shop):
    amounts = {
        price["lookup_key"]: price["unit_amount_decimal"]
        for price in shop.get("/v1/prices?limit=100")["data"]
    }
    assert Decimal(amounts["nusagate_basic_idr_flat_999900"]) == 999_900
    assert Decimal(amounts["nusagate_pro_idr_flat_14999900"]) == 14_999_900
    assert Decimal(amounts["nusagate_basic_usd_flat_99"]) == 99
    assert Decimal(amounts["nusagate_pro_usd_flat_999"]) == 999
    assert Decimal(amounts["nusagate_payg_idr_metered_0.1"]) == Decimal("0.1")
    assert Decimal(amounts["nusagate_payg_usd_metered_0.0001"]) == Decimal("0.0001")


async def test_a_new_amount_is_a_new_price_and_the_old_one_still_means_its_plan(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.db.execute("UPDATE plan_price SET monthly_amount_micro = 12000000000 WHERE plan_id = 'basic'")
    await catalogue.setup(shop.db, shop.clock, shop.stripe)
    keys = {price["lookup_key"] for price in shop.get("/v1/prices?limit=100")["data"]}
    assert {"nusagate_basic_idr_flat_999900", "nusagate_basic_idr_flat_1200000"} <= keys
    await refresh_all(shop.db, shop.clock, shop.stripe, timedelta(days=7))
    assert await shop.standing(sari) == ("basic", "active")


@pytest.mark.parametrize(("plan", "key"), [("basic", "flat_999900"), ("payg", "metered_0.1")])
async def test_a_price_that_another_one_of_its_name_replaces_is_still_known(shop, sari, plan, key):
    await shop.subscribed(sari, plan)
    lookup_key = f"nusagate_{plan}_idr_{key}"
    (before,) = [one for one in shop.get("/v1/prices?limit=100")["data"] if one["lookup_key"] == lookup_key]
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    form = "active=false&lookup_key="
    assert shop.sandbox.send("POST", f"/v1/prices/{before['id']}", form, headers)[0] == 200
    shop.move(days=2)
    after = {
        price.lookup_key: price.price_id for price in await catalogue.setup(shop.db, shop.clock, shop.stripe)
    }
    assert after[lookup_key] != before["id"]
    await refresh_all(shop.db, shop.clock, shop.stripe, timedelta(days=7))
    assert await shop.standing(sari) == (plan, "active")
    known = await store.find_prices(shop.db, [before["id"], after[lookup_key]])
    assert [price.plan_id for price in known.values()] == [plan, plan]


# ------------------------------------------------------------------ buying


async def test_buying_a_plan_changes_plan_and_limits(shop, sari):
    subscription = await shop.subscribed(sari, "basic")
    assert await shop.standing(sari) == ("basic", "active")
    assert (await accounts.get(shop.db, sari.account_id)).limits.monthly_tokens == 66_667
    assert (subscription.status, subscription.period_end) == ("active", DECEMBER)
    assert subscription_at_stripe(shop)["billing_cycle_anchor"] == int(DECEMBER.timestamp())
    assert (await shop.db.fetchval("SELECT state FROM checkout_session")) == "complete"


async def test_the_first_month_costs_its_share(shop, sari):
    await shop.subscribed(sari, "basic")
    left_s = int((DECEMBER - shop.clock.now()).total_seconds())
    share = (2 * 999_900 * left_s + 30 * 86_400) // (2 * 30 * 86_400)
    assert [invoice["total"] for invoice in invoices_at_stripe(shop)] == [share]
    shop.move_to(DECEMBER + timedelta(hours=1))
    assert invoices_at_stripe(shop)[-1]["total"] == 999_900


async def test_paying_by_use_needs_no_flat_price(shop, sari):
    await shop.subscribed(sari, "payg")
    assert await shop.standing(sari) == ("payg", "active")
    assert invoices_at_stripe(shop)[-1]["total"] == 0


async def test_a_card_that_is_declined_buys_nothing(shop, sari):
    await shop.buy(sari, "basic", DECLINED)
    await shop.catch_up()
    assert await shop.standing(sari) == ("free", "active")
    assert await entitlement(shop, sari) is None


async def test_a_second_page_closes_the_first(shop, sari):
    first = await shop.subscriptions.start_checkout(sari.account_id, "basic", URLS)
    await shop.buy(sari, "standard")
    status, _ = shop.sandbox.submit(first, action="pay", card=GOOD)
    assert status == 400
    await shop.catch_up()
    assert await shop.standing(sari) == ("standard", "active")


async def test_who_has_paid_on_a_page_cannot_open_another(shop, sari):
    await shop.buy(sari, "basic")
    with pytest.raises(AlreadySubscribed):
        await shop.subscriptions.start_checkout(sari.account_id, "pro", URLS)
    assert await shop.standing(sari) == ("basic", "active")


@pytest.mark.parametrize(
    ("plan", "error"), [("free", NoPriceForPlan), ("enterprise", NoPriceForPlan), ("gold", PlanNotFound)]
)
async def test_only_plans_with_a_price_are_sold(shop, sari, plan, error):
    with pytest.raises(error):
        await shop.subscriptions.start_checkout(sari.account_id, plan, URLS)


async def test_a_flat_plan_is_not_sold_in_a_currency_without_a_price(shop):
    await shop.db.execute("DELETE FROM plan_price WHERE currency = 'usd'")
    account = await accounts.create(
        shop.db, shop.clock, email="usd@example.com", plan_id="free", currency=Currency.USD
    )
    with pytest.raises(NoPriceForPlan, match="USD"):
        await shop.subscriptions.start_checkout(account.account_id, "basic", URLS)
    assert (await shop.subscriptions.start_checkout(account.account_id, "payg", URLS)).startswith("http")


async def test_nothing_is_sold_in_the_last_half_hour_of_a_month(shop, sari):
    shop.move_to(DECEMBER - timedelta(minutes=30))
    with pytest.raises(CheckoutClosed):
        await shop.subscriptions.start_checkout(sari.account_id, "basic", URLS)
    shop.move_to(DECEMBER)
    assert await shop.buy(sari, "basic")


async def test_a_page_is_over_before_its_month_is(shop, sari):
    shop.move_to(DECEMBER - timedelta(hours=2))
    url = await shop.subscriptions.start_checkout(sari.account_id, "basic", URLS)
    shop.move_to(DECEMBER)
    assert shop.sandbox.submit(url, action="pay", card=GOOD)[0] == 400
    await shop.catch_up()
    assert (await shop.db.fetchval("SELECT state FROM checkout_session")) == "expired"


# ------------------------------------------------------------------ changing


async def test_a_dearer_plan_begins_at_once_and_its_difference_is_paid_at_once(shop, sari):
    await shop.subscribed(sari, "basic")
    entitled = await shop.subscriptions.change_plan(sari.account_id, "standard")
    assert (entitled.plan_id, await shop.standing(sari)) == ("standard", ("standard", "active"))
    difference = invoices_at_stripe(shop)[-1]
    assert difference["status"] == "paid"
    left_s, month_s = int((DECEMBER - shop.clock.now()).total_seconds()), 30 * 86_400
    assert abs(difference["total"] - 5_000_000 * left_s // month_s) <= 1


async def test_a_dearer_plan_that_cannot_be_paid_changes_nothing(shop, sari):
    await shop.subscribed(sari, "basic", FAILS_LATER)
    with pytest.raises(StripeDeclined):
        await shop.subscriptions.change_plan(sari.account_id, "pro")
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    assert len(invoices_at_stripe(shop)) == 1


async def test_a_cheaper_plan_begins_with_the_next_month_and_nothing_is_paid_back(shop, sari):
    await shop.subscribed(sari, "pro")
    entitled = await shop.subscriptions.change_plan(sari.account_id, "basic")
    assert (entitled.plan_id, entitled.notice, entitled.notice_at) == ("pro", Notice.PLAN_CHANGES, DECEMBER)
    assert await shop.standing(sari) == ("pro", "active")
    assert len(invoices_at_stripe(shop)) == 1
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    assert invoices_at_stripe(shop)[-1]["total"] == 999_900
    assert (await entitlement(shop, sari)).notice is None


async def test_a_cheaper_plan_begins_although_no_event_ever_came(shop, sari):
    await shop.subscribed(sari, "pro")
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    shop.clock.moment = DECEMBER
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")


async def test_going_back_to_a_plan_that_is_paid_for_costs_nothing(shop, sari):
    await shop.subscribed(sari, "pro")
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    entitled = await shop.subscriptions.change_plan(sari.account_id, "pro")
    assert (entitled.plan_id, entitled.notice) == ("pro", None)
    assert len(invoices_at_stripe(shop)) == 1


async def test_a_dearer_plan_than_the_one_held_costs_the_difference_to_that(shop, sari):
    await shop.subscribed(sari, "standard")
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    await shop.subscriptions.change_plan(sari.account_id, "pro")
    left_s, month_s = int((DECEMBER - shop.clock.now()).total_seconds()), 30 * 86_400
    assert abs(invoices_at_stripe(shop)[-1]["total"] - 9_000_000 * left_s // month_s) <= 1
    assert await shop.standing(sari) == ("pro", "active")


async def test_a_dearer_plan_than_the_one_held_that_cannot_be_paid_changes_nothing(shop, sari):
    await shop.subscribed(sari, "standard")
    await shop.subscriptions.change_plan(sari.account_id, "basic")
    await shop.subscriptions.cancel(sari.account_id)
    before = subscription_at_stripe(shop)
    await shop.use_card(sari, FAILS_LATER)
    with pytest.raises(StripeDeclined):
        await shop.subscriptions.change_plan(sari.account_id, "pro")
    await shop.catch_up()
    after = subscription_at_stripe(shop)
    assert after["items"]["data"][0]["price"]["id"] == before["items"]["data"][0]["price"]["id"]
    assert (after["metadata"], after["cancel_at_period_end"]) == (before["metadata"], True)
    (known,) = await store.subscriptions_of(shop.db, sari.account_id)
    assert (known.plan_id, known.held_plan_id, known.cancel_at) == ("basic", "standard", DECEMBER)
    assert len(invoices_at_stripe(shop)) == 1


async def test_from_flat_to_use_and_back_keeps_what_usage_is_counted_by(shop, sari):
    await shop.subscribed(sari, "basic")
    entitled = await shop.subscriptions.change_plan(sari.account_id, "payg")
    assert (entitled.plan_id, len(invoices_at_stripe(shop))) == ("payg", 1)
    metered = [item["id"] for item in subscription_at_stripe(shop)["items"]["data"]]
    entitled = await shop.subscriptions.change_plan(sari.account_id, "standard")
    assert entitled.plan_id == "standard"
    assert metered[0] in [item["id"] for item in subscription_at_stripe(shop)["items"]["data"]]
    assert invoices_at_stripe(shop)[-1]["status"] == "paid"


async def test_the_plan_that_is_chosen_cannot_be_chosen_again(shop, sari, budi):
    await shop.subscribed(sari, "basic")
    with pytest.raises(InvalidValue, match="already"):
        await shop.subscriptions.change_plan(sari.account_id, "basic")
    with pytest.raises(NotSubscribed):
        await shop.subscriptions.change_plan(budi.account_id, "basic")


# ------------------------------------------------------------------ cancelling


async def test_a_cancelled_plan_lasts_to_the_end_of_its_month(shop, sari):
    await shop.subscribed(sari, "basic")
    entitled = await shop.subscriptions.cancel(sari.account_id)
    assert (entitled.plan_id, entitled.notice, entitled.notice_at) == ("basic", Notice.PLAN_ENDS, DECEMBER)
    shop.move_to(DECEMBER - timedelta(seconds=1))
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    shop.move_to(DECEMBER)
    await shop.catch_up()
    assert await shop.standing(sari) == ("free", "active")


async def test_a_cancellation_can_be_taken_back(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.subscriptions.cancel(sari.account_id)
    assert (await shop.subscriptions.keep(sari.account_id)).notice is None
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")


async def test_cancelling_in_stripes_portal_is_the_same(shop, sari):
    subscription = await shop.subscribed(sari, "basic")
    url = await shop.subscriptions.portal_url(sari.account_id, URLS.cancel)
    shop.sandbox.submit(url, action="cancel", target=subscription.subscription_id)
    await shop.catch_up()
    assert (await entitlement(shop, sari)).notice is Notice.PLAN_ENDS


async def test_after_the_end_a_plan_can_be_bought_again(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.subscriptions.cancel(sari.account_id)
    shop.move_to(DECEMBER)
    await shop.catch_up()
    await shop.subscribed(sari, "standard")
    assert await shop.standing(sari) == ("standard", "active")


# ------------------------------------------------------------------ failing to pay


async def test_a_failed_payment_has_days_of_grace_and_then_keys_stop(shop, sari):
    await shop.subscribed(sari, "basic", FAILS_LATER)
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    found = await entitlement(shop, sari)
    stops_at = DECEMBER + GRACE_OVER
    assert (found.notice, found.notice_at, found.review_at) == (Notice.PAYMENT_FAILED, stops_at, stops_at)
    assert await shop.standing(sari) == ("basic", "active")
    shop.move_to(stops_at - timedelta(seconds=1))
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    shop.move_to(stops_at)
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "payment_required")


async def test_grace_runs_out_although_no_event_comes(shop, sari):
    await shop.subscribed(sari, "basic", FAILS_LATER)
    shop.move_to(DECEMBER + timedelta(hours=1))
    await shop.catch_up()
    shop.clock.moment = DECEMBER + GRACE_OVER
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "payment_required")


async def test_paying_brings_everything_back(shop, sari):
    await shop.subscribed(sari, "basic", FAILS_LATER)
    shop.move_to(DECEMBER + GRACE_OVER)
    await shop.catch_up()
    assert await shop.pay_open_invoice(sari) == 402
    await shop.use_card(sari, GOOD)
    assert await shop.pay_open_invoice(sari) == 303
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")
    assert (await entitlement(shop, sari)).notice is None


async def test_what_an_ended_subscription_owes_must_be_paid_first(shop, sari):
    shop.sandbox.post("settings", after_last_retry="canceled")
    await shop.subscribed(sari, "basic", FAILS_LATER)
    shop.move_to(DECEMBER + timedelta(days=20))
    await shop.catch_up()
    assert await shop.standing(sari) == ("free", "payment_required")
    await shop.use_card(sari, GOOD)
    assert await shop.pay_open_invoice(sari) == 303
    await shop.catch_up()
    assert await shop.standing(sari) == ("free", "active")


async def test_an_operator_who_suspended_an_account_is_not_overruled_by_a_payment(shop, sari):
    await shop.subscribed(sari, "basic", FAILS_LATER)
    shop.move_to(DECEMBER + GRACE_OVER)
    await shop.catch_up()
    await accounts.set_status(shop.db, sari.account_id, AccountStatus.SUSPENDED)
    await shop.use_card(sari, GOOD)
    await shop.pay_open_invoice(sari)
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "suspended")


async def test_a_plan_that_an_operator_gave_stays_until_something_happens(shop, sari):
    await shop.subscribed(sari, "basic")
    await accounts.set_plan(shop.db, sari.account_id, "enterprise")
    await refresh_all(shop.db, shop.clock, shop.stripe, timedelta(days=7))
    assert await shop.standing(sari) == ("enterprise", "active")
    await shop.subscriptions.change_plan(sari.account_id, "standard")
    assert await shop.standing(sari) == ("standard", "active")


async def test_a_payment_that_a_bank_questions_stops_keys_until_it_is_won(shop, sari):
    await shop.subscribed(sari, "basic")
    [paid] = invoices_at_stripe(shop)
    dispute = shop.sandbox.post("disputes", invoice=paid["id"])
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "payment_required")
    assert (await entitlement(shop, sari)).notice is Notice.PAYMENT_DISPUTED
    shop.sandbox.post(f"disputes/{dispute['id']}/close", outcome="won")
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "active")


async def test_a_dispute_that_is_lost_stays_unsettled(shop, sari):
    await shop.subscribed(sari, "basic")
    [paid] = invoices_at_stripe(shop)
    dispute = shop.sandbox.post("disputes", invoice=paid["id"])
    shop.sandbox.post(f"disputes/{dispute['id']}/close", outcome="lost")
    await shop.catch_up()
    assert await shop.standing(sari) == ("basic", "payment_required")


# ------------------------------------------------------------------ events that never come, and running gateways


async def test_lost_events_are_made_up_for_by_looking(shop, sari, budi):
    await shop.buy(sari, "basic")
    await shop.buy(budi, "standard")
    assert await refresh_all(shop.db, shop.clock, shop.stripe, timedelta(days=7)) == 2
    assert (await shop.standing(sari), await shop.standing(budi)) == (
        ("basic", "active"),
        ("standard", "active"),
    )
    subscription = (await store.subscriptions_of(shop.db, sari.account_id))[0]
    await shop.subscriptions.cancel(sari.account_id)
    shop.move_to(DECEMBER)
    assert subscription.subscription_id not in [s["id"] for s in shop.get("/v1/subscriptions")["data"]]
    assert await refresh_all(shop.db, shop.clock, shop.stripe, timedelta(days=7)) == 1
    assert await shop.standing(sari) == ("free", "active")


async def test_a_running_gateway_hears_of_a_bought_plan_and_of_a_failed_payment(
    shop, sari, peppers, database_url
):
    cache = KeyCache(ENDLESS)
    keys = KeyService(shop.db, shop.clock, peppers, cache)
    async with listener_of(cache, database_url):
        assert (await keys.authenticate(sari.api_key)).limits.monthly_tokens == 10_000
        await shop.subscribed(sari, "basic", FAILS_LATER)
        await until(lambda: len(cache) == 0)
        assert (await keys.authenticate(sari.api_key)).limits.monthly_tokens == 66_667
        shop.move_to(DECEMBER + GRACE_OVER)
        await shop.catch_up()
        await until(lambda: len(cache) == 0)
        with pytest.raises(PaymentRequired):
            await keys.authenticate(sari.api_key)
