"""Subscriptions and invoices: periods from the 1st, usage in arrears, grace, failed payments, changes, endings."""

from decimal import Decimal

import pytest
import stripe

from tests.contract.stripe.sandbox import DAY_S, DECEMBER, HOUR_S, NOON
from tests.contract.stripe.seed import catalogue, event_of, paying_sari, sari

JANUARY = DECEMBER + 31 * DAY_S
FIRST_OF_MONTH = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
BASIC_REST_OF_NOVEMBER = 683_265
"""999,900 sen for 20.5 of November's 30 days."""
DIFFERENCE_REST_OF_NOVEMBER = 3_416_667
"""5,000,000 sen between the two plans, for the same 20.5 days."""


def subscribe(client, customer, *prices, **more):
    items = [{"price": price.id} for price in prices]
    params = {"customer": customer.id, "items": items, "billing_cycle_anchor_config": FIRST_OF_MONTH}
    return client.v1.subscriptions.create({**params, **more})


def use(client, made, customer, value, at):
    client.v1.billing.meter_events.create(event_of(made.event_name, customer.id, value, at))


def latest(client, subscription):
    return client.v1.invoices.retrieve(client.v1.subscriptions.retrieve(subscription.id).latest_invoice)


def types(client):
    return [event.type for event in client.v1.events.list({"limit": 100}).data]


def test_a_subscription_is_anchored_to_the_1st_and_its_first_part_is_prorated(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend)
    assert (subscription.status, subscription.billing_cycle_anchor) == ("active", DECEMBER)
    for item in subscription["items"].data:
        assert (item.current_period_start, item.current_period_end) == (NOON, DECEMBER)
    invoice = latest(client, subscription)
    assert (invoice.status, invoice.total, invoice.billing_reason) == (
        "paid",
        BASIC_REST_OF_NOVEMBER,
        "subscription_create",
    )


def test_a_free_first_part_is_not_billed(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, proration_behavior="none")
    assert (subscription.status, latest(client, subscription).total) == ("active", 0)


def test_usage_is_billed_in_arrears_and_the_plan_in_advance(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend)
    use(client, made, customer, 1_234_567, NOON)
    sandbox.move_to(DECEMBER)
    draft = latest(client, subscription)
    assert (draft.status, draft.period_start, draft.period_end) == ("draft", NOON, DECEMBER)
    assert draft.automatically_finalizes_at == DECEMBER + HOUR_S
    plan, usage = draft.lines.data
    assert (plan.amount, plan.period.start, plan.period.end) == (999_900, DECEMBER, JANUARY)
    assert (usage.amount, usage.quantity_decimal) == (123_457, Decimal(1_234_567))
    assert (usage.period.start, usage.period.end) == (NOON, DECEMBER)
    assert draft.total == 999_900 + 123_457


def test_usage_within_the_grace_is_on_the_invoice_and_later_usage_is_on_none(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.spend)
    use(client, made, customer, 1_000, NOON)
    sandbox.move_to(DECEMBER + HOUR_S - 1)
    use(client, made, customer, 500, DECEMBER - 1)
    assert latest(client, subscription).lines.data[0].quantity == 1_500
    sandbox.advance(1)
    use(client, made, customer, 70, DECEMBER - 1)
    closed = latest(client, subscription)
    assert (closed.status, closed.total, closed.lines.data[0].quantity) == ("paid", 150, 1_500)
    sandbox.move_to(JANUARY + HOUR_S)
    assert latest(client, subscription).lines.data[0].quantity == 0


def test_usage_at_the_boundary_belongs_to_the_next_period(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.spend)
    sandbox.move_to(DECEMBER)
    use(client, made, customer, 10, DECEMBER - 1)
    use(client, made, customer, 30, DECEMBER)
    assert latest(client, subscription).lines.data[0].quantity == 10


def test_the_grace_can_last_72_hours(client, sandbox):
    sandbox.post("settings", finalization_grace_s=72 * HOUR_S)
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.spend)
    sandbox.move_to(DECEMBER + 72 * HOUR_S - 1)
    assert latest(client, subscription).status == "draft"
    sandbox.advance(1)
    assert latest(client, subscription).status == "paid"


def test_negative_usage_lowers_a_line_to_zero_and_no_further(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.spend)
    use(client, made, customer, 100, NOON)
    use(client, made, customer, -40, NOON)
    sandbox.move_to(DECEMBER)
    assert latest(client, subscription).lines.data[0].quantity == 60
    use(client, made, customer, -100, DECEMBER - 1)
    assert (latest(client, subscription).lines.data[0].quantity, latest(client, subscription).total) == (0, 0)


def test_graduated_tiers_make_a_line_each(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    tiered = client.v1.prices.create(
        {
            "currency": "idr",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": made.meter.id},
            "product_data": {"name": "Tokens"},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 10_000, "unit_amount": 0},
                {"up_to": 20_000, "unit_amount_decimal": "0.5"},
                {"up_to": "inf", "unit_amount_decimal": "0.25", "flat_amount": 7},
            ],
        }
    )
    assert len(client.v1.prices.retrieve(tiered.id, {"expand": ["tiers"]}).tiers) == 3
    subscription = subscribe(client, customer, tiered)
    use(client, made, customer, 25_000, NOON)
    sandbox.move_to(DECEMBER)
    lines = latest(client, subscription).lines.data
    assert [(line.quantity, line.amount) for line in lines] == [(10_000, 0), (10_000, 5_000), (5_000, 1_257)]


def test_months_of_31_and_28_days_end_on_the_1st(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    february = JANUARY + 31 * DAY_S
    for start, end in ((DECEMBER, JANUARY), (JANUARY, february), (february, february + 28 * DAY_S)):
        sandbox.move_to(start)
        item = client.v1.subscriptions.retrieve(subscription.id)["items"].data[0]
        assert (item.current_period_start, item.current_period_end) == (start, end)


def test_a_failed_renewal_is_past_due_and_payment_brings_it_back(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    bad = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": bad.id}})
    sandbox.move_to(DECEMBER + HOUR_S)
    invoice = latest(client, subscription)
    assert (invoice.status, invoice.attempt_count, invoice.attempted) == ("open", 1, True)
    assert invoice.next_payment_attempt == DECEMBER + HOUR_S + 3 * DAY_S
    assert client.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    with pytest.raises(stripe.CardError) as declined:
        client.v1.invoices.pay(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    good = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": good.id}})
    assert client.v1.invoices.pay(invoice.id).status == "paid"
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert {"invoice.payment_failed", "invoice.paid", "charge.failed"} <= set(types(client))


@pytest.mark.parametrize("outcome", ["canceled", "unpaid", "past_due"])
def test_collecting_is_tried_three_more_times_and_then_given_up(client, sandbox, outcome):
    sandbox.post("settings", after_last_retry=outcome)
    made = catalogue(client)
    customer = paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    bad = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": bad.id}})
    sandbox.move_to(DECEMBER + HOUR_S + (3 + 5 + 7) * DAY_S)
    [invoice] = client.v1.invoices.list({"subscription": subscription.id, "status": "open"}).data
    assert (invoice.attempt_count, invoice.next_payment_attempt) == (4, None)
    assert client.v1.subscriptions.retrieve(subscription.id).status == outcome


def test_a_first_payment_that_fails_leaves_it_incomplete_and_it_expires(client, sandbox):
    made, customer = catalogue(client), sari(client)
    subscription = subscribe(client, customer, made.basic)
    assert (subscription.status, latest(client, subscription).status) == ("incomplete", "open")
    sandbox.advance(23 * HOUR_S)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert latest(client, subscription).status == "void"


def test_an_upgrade_in_mid_period_is_prorated_by_the_second(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, proration_behavior="none")
    sandbox.move_to(DECEMBER + (JANUARY - DECEMBER) // 2)
    change = {"items": [{"id": subscription["items"].data[0].id, "price": made.standard.id}]}
    shown = client.v1.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": change}
    )
    prorated = [line.amount for line in shown.lines.data if line.parent.subscription_item_details.proration]
    assert prorated == [-499_950, 2_999_950]
    client.v1.subscriptions.update(subscription.id, {**change, "proration_behavior": "create_prorations"})
    assert sorted(item.amount for item in client.v1.invoice_items.list({"pending": True}).data) == prorated
    sandbox.move_to(JANUARY)
    assert latest(client, subscription).total == 5_999_900 + 2_500_000


def test_an_upgrade_may_be_invoiced_at_once(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, proration_behavior="none")
    item = {"id": subscription["items"].data[0].id, "price": made.standard.id}
    client.v1.subscriptions.update(subscription.id, {"items": [item], "proration_behavior": "always_invoice"})
    invoice = latest(client, subscription)
    assert (invoice.billing_reason, invoice.status, invoice.total) == (
        "subscription_update",
        "paid",
        DIFFERENCE_REST_OF_NOVEMBER,
    )


def test_a_downgrade_leaves_a_credit_that_later_invoices_use_up(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.standard, proration_behavior="none")
    item = {"id": subscription["items"].data[0].id, "price": made.basic.id}
    client.v1.subscriptions.update(subscription.id, {"items": [item], "proration_behavior": "always_invoice"})
    assert client.v1.customers.retrieve(customer.id).balance == -DIFFERENCE_REST_OF_NOVEMBER
    sandbox.move_to(DECEMBER + HOUR_S)
    invoice = latest(client, subscription)
    assert (invoice.total, invoice.amount_due, invoice.ending_balance) == (
        999_900,
        0,
        999_900 - DIFFERENCE_REST_OF_NOVEMBER,
    )


@pytest.mark.parametrize(("mode", "billed"), [("flexible", 100), ("classic", None)])
def test_removing_a_metered_price_bills_its_usage_only_in_flexible_mode(client, sandbox, mode, billed):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend, billing_mode={"type": mode})
    use(client, made, customer, 1_000, NOON)
    sandbox.advance(1)
    metered = subscription["items"].data[1]
    client.v1.subscriptions.update(subscription.id, {"items": [{"id": metered.id, "deleted": True}]})
    sandbox.move_to(DECEMBER)
    amounts = [line.amount for line in latest(client, subscription).lines.data]
    assert amounts == [999_900, *([billed] if billed else [])]


def test_changing_a_metered_price_in_the_grace_drops_the_usage_of_the_grace(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend)
    use(client, made, customer, 1_000, NOON)
    sandbox.move_to(DECEMBER)
    draft = latest(client, subscription)
    metered = subscription["items"].data[1]
    client.v1.subscriptions.update(subscription.id, {"items": [{"id": metered.id, "deleted": True}]})
    use(client, made, customer, 500, DECEMBER - 1)
    assert [line.quantity for line in client.v1.invoices.retrieve(draft.id).lines.data] == [1, 1_000]


def test_cancelling_at_period_end_can_be_taken_back_and_else_bills_the_usage(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend)
    ending = client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at) == ("active", DECEMBER)
    client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True}).canceled_at == NOON
    use(client, made, customer, 1_000, NOON)
    sandbox.move_to(DECEMBER + HOUR_S)
    ended = client.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", DECEMBER)
    final = latest(client, subscription)
    assert (final.status, [line.amount for line in final.lines.data]) == ("paid", [100])
    assert "customer.subscription.deleted" in types(client)


@pytest.mark.parametrize(("params", "usage"), [({}, None), ({"invoice_now": True}, 100)])
def test_cancelling_now_bills_the_usage_only_when_asked(client, sandbox, params, usage):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.spend)
    use(client, made, customer, 1_000, NOON - 60)
    sandbox.advance(60)
    use(client, made, customer, 1_000, NOON)
    assert client.v1.subscriptions.cancel(subscription.id, params).status == "canceled"
    invoices = client.v1.invoices.list({"subscription": subscription.id, "status": "draft"}).data
    assert [invoice.total for invoice in invoices] == ([usage] if usage else [])


def test_a_pause_makes_no_invoices_until_it_is_resumed(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    assert client.v1.subscriptions.pause(subscription.id).status == "paused"
    sandbox.move_to(DECEMBER + HOUR_S)
    assert len(client.v1.invoices.list({"subscription": subscription.id}).data) == 1
    resumed = client.v1.subscriptions.resume(subscription.id, {"billing_cycle_anchor": "unchanged"})
    assert (resumed.status, resumed["items"].data[0].current_period_end) == ("active", JANUARY)
    assert {"customer.subscription.paused", "customer.subscription.resumed"} <= set(types(client))


@pytest.mark.parametrize(
    ("behavior", "status"),
    [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")],
)
def test_paused_collection_does_with_invoices_what_it_says(client, sandbox, behavior, status):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    client.v1.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behavior}})
    sandbox.move_to(DECEMBER + 2 * HOUR_S)
    assert latest(client, subscription).status == status


def test_an_invoice_by_hand_takes_pending_items_and_can_be_voided(client, sandbox):
    customer = paying_sari(client)
    client.v1.invoice_items.create(
        {"customer": customer.id, "amount": 5_000, "currency": "idr", "description": "Setup"}
    )
    params = {"customer": customer.id, "currency": "idr", "pending_invoice_items_behavior": "include"}
    invoice = client.v1.invoices.create(params)
    assert (invoice.status, invoice.total) == ("draft", 5_000)
    opened = client.v1.invoices.finalize_invoice(invoice.id)
    assert (opened.status, opened.number.endswith("-0001")) == ("open", True)
    assert client.v1.invoices.void_invoice(invoice.id).status == "void"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(invoice.id)


def test_deleting_a_customer_ends_its_subscription(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic)
    client.v1.customers.delete(customer.id)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert {"customer.deleted", "customer.subscription.deleted"} <= set(types(client))


def test_credit_pays_metered_lines_when_the_invoice_is_finalized(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    subscription = subscribe(client, customer, made.basic, made.spend)
    grant = client.v1.billing.credit_grants.create(
        {
            "customer": customer.id,
            "amount": {"type": "monetary", "monetary": {"currency": "idr", "value": 60_000}},
            "applicability_config": {"scope": {"price_type": "metered"}},
            "category": "paid",
        }
    )
    use(client, made, customer, 1_000_000, NOON)
    sandbox.move_to(DECEMBER)
    assert latest(client, subscription).total == 999_900 + 100_000
    sandbox.advance(HOUR_S)
    invoice = latest(client, subscription)
    assert (invoice.subtotal, invoice.total, invoice.amount_paid) == (1_099_900, 1_039_900, 1_039_900)
    summary = client.v1.billing.credit_balance_summary.retrieve(
        {
            "customer": customer.id,
            "filter": {"type": "applicability_scope", "applicability_scope": {"price_type": "metered"}},
        }
    )
    assert summary.balances[0].available_balance.monetary.value == 0
    with pytest.raises(stripe.InvalidRequestError, match="applied"):
        client.v1.billing.credit_grants.void_grant(grant.id)


def test_a_test_clock_moves_only_its_own_customers(client, sandbox):
    made = catalogue(client)
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": NOON})
    inside, outside = paying_sari(client, test_clock=clock.id), paying_sari(client)
    first, second = subscribe(client, inside, made.spend), subscribe(client, outside, made.spend)
    client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": DECEMBER + 2 * HOUR_S})
    assert client.v1.test_helpers.test_clocks.retrieve(clock.id).status == "ready"
    assert latest(client, first).billing_reason == "subscription_cycle"
    assert latest(client, second).billing_reason == "subscription_create"
    with pytest.raises(stripe.InvalidRequestError, match="two intervals"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": DECEMBER + 90 * DAY_S})


def test_a_payment_can_be_disputed(client, sandbox):
    made, customer = catalogue(client), paying_sari(client)
    invoice = latest(client, subscribe(client, customer, made.basic))
    raised = sandbox.post("disputes", invoice=invoice.id)
    dispute = client.v1.disputes.retrieve(raised["id"])
    assert (dispute.amount, dispute.status) == (invoice.total, "needs_response")
    sandbox.post(f"disputes/{dispute.id}/close", outcome="lost")
    assert client.v1.disputes.retrieve(dispute.id).status == "lost"
    assert {"charge.dispute.created", "charge.dispute.closed"} <= set(types(client))
