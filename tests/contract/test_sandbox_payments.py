"""Cards, charges, invoices made by hand and test clocks: what becomes of them, and of what hangs on them."""

import pytest
import stripe

from tests.contract.stripe.sandbox import NOON
from tests.contract.stripe.seed import flat, paying_sari, sari

FAILS_LATER = "pm_card_chargeCustomerFail"


def waiting(client, customer, amount, description):
    params = {"customer": customer.id, "currency": "idr", "amount": amount, "description": description}
    return client.v1.invoice_items.create(params)


def draft(client, customer):
    params = {"customer": customer.id, "currency": "idr", "pending_invoice_items_behavior": "include"}
    return client.v1.invoices.create(params)


def opened(client, customer):
    return client.v1.invoices.finalize_invoice(draft(client, customer).id, {"auto_advance": False})


def pending(client, customer):
    return [row.id for row in client.v1.invoice_items.list({"customer": customer.id, "pending": True}).data]


def types(client):
    return {event.type for event in client.v1.events.list({"limit": 100}).data}


# ------------------------------------------------------------------ cards and charges


def test_a_card_that_is_taken_away_pays_nothing_more_and_never_comes_back(client):
    customer = paying_sari(client)
    [card] = client.v1.customers.payment_methods.list(customer.id).data
    waiting(client, customer, 5_000, "Setup")
    invoice = opened(client, customer)
    assert client.v1.payment_methods.detach(card.id).customer is None
    assert client.v1.customers.payment_methods.list(customer.id).data == []
    assert client.v1.customers.retrieve(customer.id).invoice_settings.default_payment_method is None
    with pytest.raises(stripe.CardError):
        client.v1.invoices.pay(invoice.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(card.id, {"customer": customer.id})
    assert "payment_method.detached" in types(client)


def test_a_card_belongs_to_one_customer(client):
    owner, other = paying_sari(client), sari(client)
    [card] = client.v1.customers.payment_methods.list(owner.id).data
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(card.id, {"customer": other.id})
    assert client.v1.payment_methods.attach(card.id, {"customer": owner.id}).customer == owner.id


def test_a_charge_says_whether_it_was_paid_and_why_not(client):
    good, bad = paying_sari(client), paying_sari(client, FAILS_LATER)
    for customer in (good, bad):
        waiting(client, customer, 5_000, "Setup")
    client.v1.invoices.pay(opened(client, good).id)
    with pytest.raises(stripe.CardError):
        client.v1.invoices.pay(opened(client, bad).id)
    [paid] = client.v1.charges.list({"customer": good.id}).data
    [failed] = client.v1.charges.list({"customer": bad.id}).data
    assert (paid.status, paid.amount, paid.currency, paid.failure_code) == ("succeeded", 5_000, "idr", None)
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, "card_declined")
    assert client.v1.charges.retrieve(failed.id).amount_captured == 0


# ------------------------------------------------------------------ invoices by hand


def test_a_deleted_draft_lets_its_items_wait_again(client):
    customer = paying_sari(client)
    item = waiting(client, customer, 5_000, "Setup")
    invoice = draft(client, customer)
    assert pending(client, customer) == []
    assert client.v1.invoices.delete(invoice.id).deleted is True
    assert pending(client, customer) == [item.id]
    with pytest.raises(stripe.InvalidRequestError, match="No such invoice"):
        client.v1.invoices.retrieve(invoice.id)


def test_only_a_draft_is_deleted(client):
    customer = paying_sari(client)
    waiting(client, customer, 5_000, "Setup")
    invoice = opened(client, customer)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.delete(invoice.id)
    assert (refused.value.http_status, refused.value.code) == (400, "invoice_not_editable")
    assert client.v1.invoices.retrieve(invoice.id).status == "open"


def test_the_lines_of_an_invoice_are_read_in_their_order_page_by_page(client):
    customer = paying_sari(client)
    for number in range(5):
        waiting(client, customer, 100 + number, f"Item {number}")
    invoice = draft(client, customer)
    page = client.v1.invoices.line_items.list(invoice.id, {"limit": 2})
    assert ([line.amount for line in page.data], page.has_more) == ([100, 101], True)
    assert [line.amount for line in page.auto_paging_iter()] == [100, 101, 102, 103, 104]


def test_an_item_leaves_a_draft_when_it_is_deleted_and_never_a_final_invoice(client):
    customer = paying_sari(client)
    first, second = waiting(client, customer, 100, "First"), waiting(client, customer, 200, "Second")
    invoice = draft(client, customer)
    assert client.v1.invoice_items.delete(first.id).deleted is True
    assert client.v1.invoices.retrieve(invoice.id).total == 200
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoice_items.delete(second.id)
    assert client.v1.invoices.retrieve(invoice.id).total == 200


def test_an_invoice_that_is_given_up_may_still_be_paid_but_not_one_that_is_void(client):
    customer = paying_sari(client)
    waiting(client, customer, 100, "First")
    given_up = opened(client, customer)
    waiting(client, customer, 200, "Second")
    void = opened(client, customer)
    assert client.v1.invoices.mark_uncollectible(given_up.id).status == "uncollectible"
    client.v1.invoices.void_invoice(void.id)
    assert {"invoice.marked_uncollectible", "invoice.voided"} <= types(client)
    assert client.v1.invoices.pay(given_up.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(void.id)


# ------------------------------------------------------------------ test clocks


def test_a_deleted_test_clock_takes_its_customers_along(client):
    clocks = client.v1.test_helpers.test_clocks
    kept, gone = clocks.create({"frozen_time": NOON}), clocks.create({"frozen_time": NOON})
    inside, outside = paying_sari(client, test_clock=gone.id), paying_sari(client)
    price = flat(client, "Basic", 999_900)
    for customer in (inside, outside):
        client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    assert [clock.id for clock in clocks.list().data] == [gone.id, kept.id]
    assert clocks.delete(gone.id).deleted is True
    assert [clock.id for clock in clocks.list().data] == [kept.id]
    assert [row.id for row in client.v1.customers.list().data] == [outside.id]
    assert [row.customer for row in client.v1.subscriptions.list().data] == [outside.id]
