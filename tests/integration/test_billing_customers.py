"""An account at Stripe: made known once, parked when Stripe forgets it, and given another customer."""

import asyncio

import pytest

from billing.customers import service, store
from billing.customers.model import CustomerState, CustomerTaken, CustomerUnknown
from billing.stripe.errors import StripeUnreachable
from gateway.accounts import service as accounts
from gateway.audit import service as audit
from gateway.ids import uuid7
from tests.plugins.shop import KEY, URLS


@pytest.fixture
async def account(shop, sari):
    return await accounts.get(shop.db, sari.account_id)


async def ensure(shop, account):
    return await service.ensure_customer(shop.db, shop.clock, shop.stripe, account)


def at_stripe(shop):
    return shop.get("/v1/customers?limit=100")["data"]


def delete_at_stripe(shop, customer_id):
    status, _, _ = shop.sandbox.send(
        "DELETE", f"/v1/customers/{customer_id}", headers={"Authorization": f"Bearer {KEY}"}
    )
    assert status == 200


async def test_a_customer_is_made_once_and_says_whose_it_is(shop, account):
    first, second = await asyncio.gather(ensure(shop, account), ensure(shop, account))
    assert first == second == await ensure(shop, account)
    [customer] = at_stripe(shop)
    assert (customer["id"], customer["email"]) == (first.customer_id, "sari@example.com")
    assert customer["metadata"] == {"nusagate_account": str(account.account_id)}
    assert await service.account_of(shop.db, first.customer_id) == account.account_id


async def test_an_answer_that_was_lost_makes_no_second_customer(shop, account):
    shop.sandbox.faults({"kind": "commit_then_drop", "path": "/v1/customers"})
    with pytest.raises(StripeUnreachable):
        await ensure(shop, account)
    await ensure(shop, account)
    assert len(at_stripe(shop)) == 1


async def test_a_customer_that_was_deleted_is_parked_by_its_event(shop, account, sari):
    await shop.subscribed(sari, "basic")
    customer = await store.find(shop.db, account.account_id)
    delete_at_stripe(shop, customer.customer_id)
    await shop.catch_up()
    parked = await store.find(shop.db, account.account_id)
    assert (parked.state, parked.parked_reason) == (CustomerState.PARKED, "deleted_at_stripe")
    assert await shop.standing(sari) == ("free", "active")
    [kept] = await audit.list_events(
        shop.db, account_id=account.account_id, action="customer:park", since=None, limit=10
    )
    assert (kept.actor, kept.object_id) == ("nusagate", customer.customer_id)


async def test_an_event_about_a_customer_that_is_still_there_parks_nobody(shop, account, sari):
    customer = await ensure(shop, account)
    await shop.post(
        {
            "id": "evt_old",
            "type": "customer.deleted",
            "created": 1,
            "data": {"object": {"id": customer.customer_id}},
        }
    )
    await shop.processor.run()
    assert (await store.find(shop.db, account.account_id)).state is CustomerState.ACTIVE


async def test_who_buys_again_after_being_deleted_becomes_a_new_customer(shop, account, sari):
    first = await ensure(shop, account)
    delete_at_stripe(shop, first.customer_id)
    await shop.buy(sari, "basic")
    await shop.catch_up()
    second = await store.find(shop.db, account.account_id)
    assert (second.generation, second.state) == (2, CustomerState.ACTIVE)
    assert second.customer_id != first.customer_id
    assert await shop.standing(sari) == ("basic", "active")


async def test_the_portal_opens_for_a_customer_of_before(shop, account, sari):
    first = await ensure(shop, account)
    delete_at_stripe(shop, first.customer_id)
    assert (await shop.subscriptions.portal_url(sari.account_id, URLS.cancel)).startswith(shop.sandbox.url)
    assert (await store.find(shop.db, account.account_id)).generation == 2


async def test_an_operator_gives_a_parked_account_another_customer(shop, account):
    first = await ensure(shop, account)
    await service.park(shop.db, shop.clock, first.customer_id, reason="tested")
    second = await service.remap(shop.db, shop.clock, shop.stripe, account)
    assert (second.generation, second.state, second.parked_reason) == (2, CustomerState.ACTIVE, None)
    back = await service.remap(shop.db, shop.clock, shop.stripe, account, customer_id=first.customer_id)
    assert (back.customer_id, back.generation) == (first.customer_id, 3)


async def test_an_account_cannot_be_given_a_customer_of_nobody_or_of_another(shop, account, budi):
    with pytest.raises(CustomerUnknown, match="cus_nobody"):
        await service.remap(shop.db, shop.clock, shop.stripe, account, customer_id="cus_nobody")
    theirs = await ensure(shop, await accounts.get(shop.db, budi.account_id))
    with pytest.raises(CustomerTaken):
        await service.remap(shop.db, shop.clock, shop.stripe, account, customer_id=theirs.customer_id)


async def test_parking_twice_and_parking_nobody_change_nothing(shop, account):
    customer = await ensure(shop, account)
    assert await service.park(shop.db, shop.clock, customer.customer_id, reason="first")
    assert not await service.park(shop.db, shop.clock, customer.customer_id, reason="second")
    assert not await service.park(shop.db, shop.clock, f"cus_{uuid7().hex}", reason="third")
    assert (await store.find(shop.db, account.account_id)).parked_reason == "first"
