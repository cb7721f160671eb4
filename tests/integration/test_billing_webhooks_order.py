"""Which of Stripe's answers and events come first: by one clock, and what somebody bought before a burst of others."""

import asyncio
from datetime import timedelta

from billing.subscriptions import store as subscriptions
from billing.subscriptions.service import Subscriptions
from billing.webhooks import service, store
from tests.integration.test_billing_webhooks import event
from tests.plugins.cast import MovableClock

HELD_UP = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def test_an_answer_is_newer_by_one_clock_however_far_those_of_processes_are_apart(shop, sari):
    found = await shop.subscribed(sari, "basic")
    ahead = MovableClock()
    ahead.moment = shop.clock.now() + timedelta(minutes=3)
    portal = Subscriptions(shop.db, ahead, shop.stripe, shop.settings.limits)
    await portal.cancel(sari.account_id)
    await shop.stripe.write(
        lambda sdk, options: sdk.v1.subscriptions.update_async(
            found.subscription_id, {"cancel_at_period_end": False}, options
        ),
        idempotency_key="taken back at Stripe",
    )
    await shop.catch_up()
    [kept_now] = await subscriptions.subscriptions_of(shop.db, sari.account_id)
    assert kept_now.cancel_at is None


async def test_a_moment_that_has_not_come_yet_keeps_no_answer_out(shop, sari):
    await shop.subscribed(sari, "basic")
    await shop.db.execute(
        "UPDATE stripe_subscription SET asked_at = now() + interval '1 day', status = 'unpaid'"
    )
    await shop.post(event(1, id=(await subscriptions.subscriptions_page(shop.db, after="", limit=1))[0]))
    await shop.processor.run()
    [found] = await subscriptions.subscriptions_of(shop.db, sari.account_id)
    assert found.status == "active"


async def test_an_event_that_was_taken_in_by_a_clock_ahead_is_worked_off_at_once(shop, sari):
    await shop.buy(sari, "basic")
    for found in shop.new_events():
        assert await shop.post(found) == 200
    await shop.db.execute("UPDATE webhook_event SET due_at = due_at + interval '3 minutes'")
    await shop.processor.run()
    assert await shop.standing(sari) == ("basic", "active")


async def test_what_somebody_bought_waits_for_no_burst_of_other_events(shop, sari):
    for number in range(3):
        await shop.post(event(number, id=f"sub_{number}"))
    await shop.post(event(9, "checkout.session.completed", id="cs_1"))
    now = shop.clock.now()
    [first] = await store.claim(shop.db, now=now, lease_until=now + service.LEASE, limit=1)
    assert first.event_id == "evt_9"


async def test_an_object_that_takes_long_holds_up_no_other(shop, sari, budi):
    for person in (sari, budi):
        await shop.buy(person, "basic")
        for found in shop.new_events():
            await shop.post(found)
    async with shop.db.acquire() as connection, connection.transaction():
        for person in (sari, budi):
            await subscriptions.lock_account(connection, person.account_id)
        working = asyncio.create_task(shop.processor.run())
        async with asyncio.timeout(20):
            while await shop.db.fetchval(HELD_UP) < 2:  # noqa: ASYNC110 - a lock that is waited for has no event
                await asyncio.sleep(0)
    await working
    shop.move(minutes=1)
    await shop.processor.run()
    assert await shop.standing(sari) == await shop.standing(budi) == ("basic", "active")
