"""The sandbox's first page, where a person lets time pass and cards go bad."""

from tests.contract.stripe.sandbox import DAY_S, DECEMBER, HOUR_S, NOON
from tests.contract.stripe.seed import catalogue, paying_sari

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def press(sandbox, action, **form):
    return sandbox.submit(sandbox.url + "/", action=action, **form)


def shown(sandbox):
    return sandbox.send("GET", "/")[2]


def now(sandbox):
    return sandbox.get("state")["now"]


def test_it_says_what_time_it_is_and_lets_it_pass(sandbox):
    assert "2026-11-10 12:00 UTC" in shown(sandbox)
    assert press(sandbox, "hour") == (303, "/")
    assert now(sandbox) == NOON + HOUR_S
    press(sandbox, "day")
    assert now(sandbox) == NOON + HOUR_S + DAY_S
    press(sandbox, "week")
    assert now(sandbox) == NOON + HOUR_S + 9 * DAY_S


def subscribed(client):
    """Sari, who pays a flat price from the next month on."""
    customer = paying_sari(client)
    params = {"customer": customer.id, "items": [{"price": catalogue(client).basic.id}]}
    subscription = client.v1.subscriptions.create({**params, "billing_cycle_anchor": DECEMBER})
    return customer, subscription


def test_the_next_month_is_reached_with_its_invoices_collected(client, sandbox):
    _, subscription = subscribed(client)
    press(sandbox, "month")
    assert now(sandbox) == DECEMBER + 2 * HOUR_S
    invoice = client.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.billing_reason, invoice.status) == ("subscription_cycle", "paid")


def test_a_customer_gets_a_card_that_fails_and_then_owes(client, sandbox):
    customer, subscription = subscribed(client)
    assert f"{customer.email}" in shown(sandbox)
    assert press(sandbox, "card", target=customer.id, card="0341") == (303, "/")
    press(sandbox, "month")
    assert client.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert "owes IDR 9,999.00" in shown(sandbox)


def test_what_makes_no_sense_is_refused_on_the_page(sandbox):
    assert press(sandbox, "yesterday")[0] == 400
    assert press(sandbox, "card", target="cus_nobody", card="4242")[0] == 400
    assert now(sandbox) == NOON


def test_a_page_of_somebody_else_cannot_press_its_buttons(sandbox):
    for origin in ("https://example.com", "null"):
        assert sandbox.send("POST", "/", "action=day", {**FORM, "origin": origin})[0] == 403
    assert now(sandbox) == NOON
    assert sandbox.send("POST", "/", "action=day", {**FORM, "origin": sandbox.url})[0] == 303


def test_it_says_that_it_lives(sandbox):
    assert sandbox.send("GET", "/healthz")[0] == 200
