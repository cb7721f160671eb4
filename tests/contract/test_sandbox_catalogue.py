"""Products and prices: made, changed, listed, found by a key of ours, and never priced anew; and credit that is given."""

from uuid import uuid4

import pytest
import stripe

from tests.contract.stripe.seed import sari

MONTHLY = {"interval": "month"}


def product_of(client, **words):
    return client.v1.products.create({"name": "Plan", **words})


def promotional(client, customer):
    return client.v1.billing.credit_grants.create(
        {
            "customer": customer.id,
            "name": "Counted too much",
            "category": "promotional",
            "amount": {"type": "monetary", "monetary": {"currency": "idr", "value": 2_000}},
            "applicability_config": {"scope": {"price_type": "metered"}},
        }
    )


def test_a_product_is_created_under_our_own_id_changed_read_and_listed(client):
    own = f"plan_{uuid4().hex}"
    made = product_of(client, id=own, metadata={"plan": "pro"})
    assert (made.id, made.active, made.name) == (own, True, "Plan")
    changed = client.v1.products.update(own, {"name": "Pro", "active": False})
    assert (changed.name, changed.active, changed.metadata["plan"]) == ("Pro", False, "pro")
    assert client.v1.products.retrieve(own).name == "Pro"
    assert [one.id for one in client.v1.products.list({"ids": [own]}).data] == [own]
    assert client.v1.products.list({"ids": [own], "active": True}).data == []


def test_an_id_belongs_to_one_product(client):
    own = f"plan_{uuid4().hex}"
    product_of(client, id=own)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        product_of(client, id=own)
    assert (refused.value.http_status, refused.value.code) == (400, "resource_already_exists")


def test_a_product_is_deleted_only_without_prices(client):
    bare, priced = product_of(client), product_of(client)
    client.v1.prices.create(
        {"product": priced.id, "currency": "usd", "unit_amount": 500, "recurring": MONTHLY}
    )
    assert client.v1.products.delete(bare.id).deleted is True
    with pytest.raises(stripe.InvalidRequestError, match="prices"):
        client.v1.products.delete(priced.id)


def test_a_price_is_found_by_its_lookup_key_which_another_price_may_take_over(client):
    product, key = product_of(client), f"pro_usd_{uuid4().hex}"
    words = {"product": product.id, "currency": "usd", "recurring": MONTHLY, "lookup_key": key}
    old = client.v1.prices.create({**words, "unit_amount": 500})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.prices.create({**words, "unit_amount": 700})
    new = client.v1.prices.create({**words, "unit_amount": 700, "transfer_lookup_key": True})
    assert [one.id for one in client.v1.prices.list({"lookup_keys": [key]}).data] == [new.id]
    assert client.v1.prices.retrieve(old.id).lookup_key is None
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.prices.update(old.id, {"lookup_key": key})
    taken = client.v1.prices.update(old.id, {"lookup_key": key, "transfer_lookup_key": True})
    assert (taken.lookup_key, client.v1.prices.retrieve(new.id).lookup_key) == (key, None)


def test_an_archived_price_keeps_its_amount(client):
    product = product_of(client)
    price = client.v1.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 500, "recurring": MONTHLY}
    )
    changed = client.v1.prices.update(price.id, {"active": False, "nickname": "old"})
    assert (changed.active, changed.nickname, changed.unit_amount) == (False, "old", 500)
    assert client.v1.prices.list({"product": product.id, "active": True}).data == []


def test_promotional_credit_has_a_name_and_is_listed_for_its_customer(client):
    customer, other = sari(client), sari(client)
    grant = promotional(client, customer)
    (listed,) = client.v1.billing.credit_grants.list({"customer": customer.id}).data
    assert (listed.id, listed.name, listed.amount.monetary.value) == (grant.id, "Counted too much", 2_000)
    assert client.v1.billing.credit_grants.list({"customer": other.id}).data == []


def test_credit_that_is_expired_or_void_pays_nothing_any_more(client):
    customer = sari(client)
    expired, void = promotional(client, customer), promotional(client, customer)
    client.v1.billing.credit_grants.update(expired.id, {"metadata": {"why": "counted twice"}})
    client.v1.billing.credit_grants.expire(expired.id)
    client.v1.billing.credit_grants.void_grant(void.id)
    read = client.v1.billing.credit_grants.retrieve(expired.id)
    assert (read.metadata["why"], read.expires_at is None, read.voided_at) == ("counted twice", False, None)
    assert client.v1.billing.credit_grants.retrieve(void.id).voided_at is not None
    left = client.v1.billing.credit_balance_summary.retrieve(
        {
            "customer": customer.id,
            "filter": {"type": "applicability_scope", "applicability_scope": {"price_type": "metered"}},
        }
    )
    assert [one.available_balance.monetary.value for one in left.balances] == [0]
