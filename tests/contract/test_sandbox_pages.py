"""Checkout and the portal as a person clicks through them, and the sessions behind them."""

import re

import pytest
import stripe

from tests.contract.stripe.sandbox import DAY_S, DECEMBER, HOUR_S, NOON
from tests.contract.stripe.seed import catalogue, flat, paying_sari, sari

SUCCESS = "http://127.0.0.1:8081/billing/done?session={CHECKOUT_SESSION_ID}"
CANCEL = "http://127.0.0.1:8081/billing"


def open_checkout(client, customer, *prices, **more):
    lines = [{"price": price.id, **({} if metered(price) else {"quantity": 1})} for price in prices]
    params = {
        "mode": "subscription",
        "line_items": lines,
        "success_url": SUCCESS,
        "cancel_url": CANCEL,
        "client_reference_id": "account-7",
        "subscription_data": {"billing_cycle_anchor": DECEMBER, "metadata": {"account": "7"}},
    }
    who = {"customer": customer.id} if customer else {"customer_email": "sari@example.com"}
    return client.v1.checkout.sessions.create({**params, **who, **more})


def metered(price):
    return price.recurring is not None and price.recurring.usage_type == "metered"


def types(client):
    return [event.type for event in client.v1.events.list({"limit": 100}).data]


def test_paying_at_checkout_begins_the_subscription_and_leads_back(client, sandbox):
    made, customer = catalogue(client), sari(client)
    session = open_checkout(client, customer, made.basic, made.spend)
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 999_900)
    page = sandbox.send("GET", session.url.removeprefix(sandbox.url))[2]
    assert "Basic" in page
    assert "IDR 9,999.00" in page
    status, place = sandbox.submit(session.url, action="pay", card="4242")
    assert (status, place) == (303, SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id))
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert (done.subscription.status, done.subscription.metadata["account"]) == ("active", "7")
    assert done.subscription.billing_cycle_anchor == DECEMBER
    assert [line.price.id for line in done.line_items.data] == [made.basic.id, made.spend.id]
    assert {"checkout.session.completed", "customer.subscription.created", "invoice.paid"} <= set(
        types(client)
    )


def test_the_page_says_what_is_charged_now(client, sandbox):
    made, customer = catalogue(client), sari(client)
    session = open_checkout(client, customer, made.basic, made.spend)
    page = sandbox.send("GET", session.url.removeprefix(sandbox.url))[2]
    sandbox.submit(session.url, action="pay", card="4242")
    (invoice,) = client.v1.invoices.list({"customer": customer.id}).data
    assert 0 < invoice.total < session.amount_total
    assert f"<b>Due now</b><td>IDR {invoice.total / 100:,.2f}</table>" in page


def test_checkout_without_a_customer_makes_one(client, sandbox):
    made = catalogue(client)
    session = open_checkout(client, None, made.basic)
    assert session.customer is None
    sandbox.submit(session.url, action="pay", card="4242")
    customer = client.v1.checkout.sessions.retrieve(session.id).customer
    assert client.v1.customers.retrieve(customer).email == "sari@example.com"


@pytest.mark.parametrize("card", ["0002", "9995"])
def test_a_declined_card_leaves_the_session_open(client, sandbox, card):
    made = catalogue(client)
    session = open_checkout(client, sari(client), made.basic)
    status, page = sandbox.submit(session.url, action="pay", card=card)
    assert (status, "declined" in page) == (402, True)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert client.v1.subscriptions.list().data == []


def test_a_card_that_fails_at_renewal_pays_at_checkout(client, sandbox):
    made = catalogue(client)
    session = open_checkout(client, sari(client), made.basic)
    sandbox.submit(session.url, action="pay", card="0341")
    [subscription] = client.v1.subscriptions.list().data
    assert subscription.status == "active"
    sandbox.move_to(DECEMBER + HOUR_S)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "past_due"


def test_cancelling_checkout_leads_back_and_changes_nothing(client, sandbox):
    made = catalogue(client)
    session = open_checkout(client, sari(client), made.basic)
    assert sandbox.submit(session.url, action="cancel") == (303, CANCEL)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_an_unpaid_session_expires_after_a_day(client, sandbox):
    made = catalogue(client)
    session = open_checkout(client, sari(client), made.basic)
    assert session.expires_at == NOON + DAY_S
    sandbox.advance(DAY_S)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert "checkout.session.expired" in types(client)
    assert sandbox.submit(session.url, action="pay", card="4242")[0] == 400


def test_a_session_can_be_expired_once(client):
    made = catalogue(client)
    session = open_checkout(client, sari(client), made.basic)
    assert client.v1.checkout.sessions.expire(session.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match="expired"):
        client.v1.checkout.sessions.expire(session.id)


def test_checkout_takes_twenty_recurring_prices_and_no_more(client):
    price = flat(client, "Basic", 100)
    assert open_checkout(client, sari(client), *[price] * 20).status == "open"
    with pytest.raises(stripe.InvalidRequestError, match="20"):
        open_checkout(client, sari(client), *[price] * 21)


def test_a_metered_price_takes_no_quantity(client):
    made = catalogue(client)
    params = {
        "mode": "subscription",
        "success_url": SUCCESS,
        "line_items": [{"price": made.spend.id, "quantity": 1}],
    }
    with pytest.raises(stripe.InvalidRequestError, match="quantity"):
        client.v1.checkout.sessions.create(params)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_top_up_may_be_paid_by_a_transfer_that_arrives_later_or_never(client, sandbox, arrives):
    price_data = {"currency": "idr", "unit_amount": 5_000_000, "product_data": {"name": "Credit"}}
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": sari(client).id,
            "line_items": [{"price_data": price_data, "quantity": 2}],
            "success_url": SUCCESS,
        }
    )
    assert session.amount_total == 10_000_000
    sandbox.submit(session.url, action="later")
    waiting = client.v1.checkout.sessions.retrieve(session.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    sandbox.post(f"checkout/{session.id}", action="settle", succeeded=arrives)
    settled = client.v1.checkout.sessions.retrieve(session.id)
    assert settled.payment_status == ("paid" if arrives else "unpaid")
    assert f"checkout.session.async_payment_{'succeeded' if arrives else 'failed'}" in types(client)


def test_the_portal_changes_the_card_cancels_and_takes_it_back(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": made.basic.id}]}
    )
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id, "return_url": CANCEL})
    page = sandbox.send("GET", portal.url.removeprefix(sandbox.url))[2]
    assert {"Basic", "Visa ending in 4242", CANCEL} <= set(
        re.findall(r"Basic|Visa ending in 4242|http:[^']*billing", page)
    )
    assert sandbox.submit(portal.url, action="cancel", target=subscription.id)[0] == 303
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end
    sandbox.submit(portal.url, action="resume", target=subscription.id)
    assert not client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end
    sandbox.submit(portal.url, action="card", card="0341")
    default = client.v1.customers.retrieve(customer.id).invoice_settings.default_payment_method
    assert client.v1.payment_methods.retrieve(default).card.last4 == "0341"


def test_the_portal_pays_an_overdue_invoice(client, sandbox):
    made, customer = catalogue(client), sari(client)
    client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": made.basic.id}]})
    [invoice] = client.v1.invoices.list({"customer": customer.id}).data
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id})
    assert sandbox.submit(portal.url, action="pay", target=invoice.id)[0] == 402
    sandbox.submit(portal.url, action="card", card="4242")
    assert sandbox.submit(portal.url, action="pay", target=invoice.id)[0] == 303
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    assert client.v1.subscriptions.list({"customer": customer.id}).data[0].status == "active"


def test_the_portal_of_one_customer_cannot_touch_anothers(client, sandbox):
    made, customer, budi = catalogue(client), paying_sari(client), paying_sari(client)
    theirs = client.v1.subscriptions.create({"customer": budi.id, "items": [{"price": made.basic.id}]})
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id})
    assert sandbox.submit(portal.url, action="cancel", target=theirs.id)[0] == 404
    assert not client.v1.subscriptions.retrieve(theirs.id).cancel_at_period_end


def test_a_portal_session_nobody_opens_is_over_after_five_minutes(client, sandbox):
    portal = client.v1.billing_portal.sessions.create({"customer": sari(client).id})
    sandbox.advance(301)
    assert sandbox.send("GET", portal.url.removeprefix(sandbox.url))[0] == 404


def test_an_invoice_has_a_page_on_which_it_is_paid(client, sandbox):
    made, customer = catalogue(client), sari(client)
    session = open_checkout(client, customer, made.basic)
    sandbox.submit(session.url, action="pay", card="0341")
    sandbox.move_to(DECEMBER + HOUR_S + 60)
    invoice = client.v1.invoices.list({"customer": customer.id, "status": "open"}).data[0]
    path = invoice.hosted_invoice_url.removeprefix(sandbox.url)
    assert "IDR 9,999.00" in sandbox.send("GET", path)[2]
    assert sandbox.send("GET", f"{path}/pdf")[0] == 200
    status, page = sandbox.submit(invoice.hosted_invoice_url, action="pay")
    assert (status, "declined" in page) == (402, True)
    portal = client.v1.billing_portal.sessions.create({"customer": customer.id})
    sandbox.submit(portal.url, action="card", card="4242")
    assert sandbox.submit(invoice.hosted_invoice_url, action="pay")[0] == 303
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    assert "Pay now" not in sandbox.send("GET", path)[2]


def test_names_are_escaped_on_the_pages(client, sandbox):
    price = flat(client, "<script>alert(1)</script>", 100)
    session = open_checkout(client, sari(client), price)
    page = sandbox.send("GET", session.url.removeprefix(sandbox.url))[2]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
