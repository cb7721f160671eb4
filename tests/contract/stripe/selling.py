"""A request that Stripe takes and one that it refuses, for every operation that meters, prices and sells.

`test_stripe_operations` runs each row with the checked client.
"""

from uuid import uuid4

from tests.contract.stripe.sandbox import DAY_S
from tests.contract.stripe.seed import event_of, new_meter
from tests.contract.stripe.stage import BACK, PAGE, TOO_LONG_A_PAGE, Scenario, checkout, credit, summary_of

BILLING = {
    "GET /v1/billing/credit_balance_summary": Scenario(
        lambda s: s.v1.billing.credit_balance_summary.retrieve(
            summary_of(s.v1.billing.credit_grants.retrieve(s.grant()).customer)
        ),
        lambda s: s.v1.billing.credit_balance_summary.retrieve(summary_of("cus_nobody")),
    ),
    "GET /v1/billing/credit_grants": Scenario(
        lambda s: (s.grant(), s.v1.billing.credit_grants.list(PAGE)),
        lambda s: s.v1.billing.credit_grants.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/billing/credit_grants": Scenario(
        lambda s: s.v1.billing.credit_grants.create(credit(s.sari())),
        lambda s: s.v1.billing.credit_grants.create(credit("cus_nobody")),
    ),
    "GET /v1/billing/credit_grants/{id}": Scenario(
        lambda s: s.v1.billing.credit_grants.retrieve(s.grant()),
        lambda s: s.v1.billing.credit_grants.retrieve("credgr_none"),
        404,
    ),
    "POST /v1/billing/credit_grants/{id}": Scenario(
        lambda s: s.v1.billing.credit_grants.update(s.grant(), {"expires_at": s.now + DAY_S}),
        lambda s: s.v1.billing.credit_grants.update("credgr_none", {"metadata": {"why": "none"}}),
        404,
    ),
    "POST /v1/billing/credit_grants/{id}/expire": Scenario(
        lambda s: s.v1.billing.credit_grants.expire(s.grant()),
        lambda s: s.v1.billing.credit_grants.expire("credgr_none"),
        404,
    ),
    "POST /v1/billing/credit_grants/{id}/void": Scenario(
        lambda s: s.v1.billing.credit_grants.void_grant(s.grant()),
        lambda s: s.v1.billing.credit_grants.void_grant("credgr_none"),
        404,
    ),
    "POST /v1/billing/meter_event_adjustments": Scenario(
        lambda s: s.v1.billing.meter_event_adjustments.create(s.counted(uuid4().hex)),
        lambda s: s.v1.billing.meter_event_adjustments.create(
            {"event_name": s.meter().event_name, "type": "cancel", "cancel": {"identifier": "none"}}
        ),
    ),
    "POST /v1/billing/meter_events": Scenario(
        lambda s: s.v1.billing.meter_events.create(
            event_of(s.meter().event_name, s.sari(), 5, s.now, uuid4().hex)
        ),
        lambda s: s.v1.billing.meter_events.create({"event_name": s.meter().event_name, "payload": {}}),
    ),
    "GET /v1/billing/meters": Scenario(
        lambda s: (s.meter(), s.v1.billing.meters.list({"status": "active", **PAGE})),
        lambda s: s.v1.billing.meters.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/billing/meters": Scenario(
        lambda s: s.v1.billing.meters.create(
            {
                "display_name": "LLM spend",
                "event_name": uuid4().hex,
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                "value_settings": {"event_payload_key": "value"},
            }
        ),
        lambda s: new_meter(s.client, s.meter().event_name),
    ),
    "GET /v1/billing/meters/{id}": Scenario(
        lambda s: s.v1.billing.meters.retrieve(s.meter().id),
        lambda s: s.v1.billing.meters.retrieve("mtr_none"),
        404,
    ),
    "POST /v1/billing/meters/{id}": Scenario(
        lambda s: s.v1.billing.meters.update(s.meter().id, {"display_name": "Spend"}),
        lambda s: s.v1.billing.meters.update("mtr_none", {"display_name": "Spend"}),
        404,
    ),
    "POST /v1/billing/meters/{id}/deactivate": Scenario(
        lambda s: s.v1.billing.meters.deactivate(s.meter().id),
        lambda s: s.v1.billing.meters.deactivate("mtr_none"),
        404,
    ),
    "GET /v1/billing/meters/{id}/event_summaries": Scenario(
        lambda s: s.v1.billing.meters.event_summaries.list(
            s.meter().id, {"customer": s.sari(), "value_grouping_window": "hour", **s.hour()}
        ),
        lambda s: s.v1.billing.meters.event_summaries.list(
            s.meter().id, {"customer": s.sari(), **s.hour(), "start_time": s.now - s.now % 60 + 1}
        ),
    ),
    "POST /v1/billing/meters/{id}/reactivate": Scenario(
        lambda s: s.v1.billing.meters.reactivate(s.v1.billing.meters.deactivate(s.meter().id).id),
        lambda s: s.v1.billing.meters.reactivate("mtr_none"),
        404,
    ),
    "POST /v2/billing/meter_event_adjustments": Scenario(
        lambda s: s.v2.billing.meter_event_adjustments.create(s.counted(uuid4().hex)),
        lambda s: s.v2.billing.meter_event_adjustments.create(
            {"event_name": s.meter().event_name, "type": "cancel", "cancel": {"identifier": "none"}}
        ),
    ),
    "POST /v2/billing/meter_event_session": Scenario(
        lambda s: s.v2.billing.meter_event_session.create(),
        lambda s: s.v2.billing.meter_event_session.create({"lasts": "longer"}),
    ),
    "POST /v2/billing/meter_event_stream": Scenario(
        lambda s: s.v2.billing.meter_event_stream.create({"events": [s.v2_event()]}, s.session_token()),
        lambda s: s.v2.billing.meter_event_stream.create({"events": []}, s.session_token()),
    ),
    "POST /v2/billing/meter_events": Scenario(
        lambda s: s.v2.billing.meter_events.create(s.v2_event()),
        lambda s: s.v2.billing.meter_events.create({**s.v2_event(), "event_name": "none"}),
    ),
}
SALES = {
    "POST /v1/billing_portal/sessions": Scenario(
        lambda s: s.v1.billing_portal.sessions.create({"customer": s.sari(), "return_url": BACK}),
        lambda s: s.v1.billing_portal.sessions.create({"customer": "cus_nobody"}),
    ),
    "GET /v1/checkout/sessions": Scenario(
        lambda s: (s.checkout(), s.v1.checkout.sessions.list({"status": "open", **PAGE})),
        lambda s: s.v1.checkout.sessions.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/checkout/sessions": Scenario(
        lambda s: s.v1.checkout.sessions.create(checkout(s.sari(), s.price())),
        lambda s: s.v1.checkout.sessions.create(checkout(s.sari(), "price_none")),
    ),
    "GET /v1/checkout/sessions/{session}": Scenario(
        lambda s: s.v1.checkout.sessions.retrieve(s.checkout(), {"expand": ["line_items"]}),
        lambda s: s.v1.checkout.sessions.retrieve("cs_none"),
        404,
    ),
    "POST /v1/checkout/sessions/{session}/expire": Scenario(
        lambda s: s.v1.checkout.sessions.expire(s.checkout()),
        lambda s: s.v1.checkout.sessions.expire("cs_none"),
        404,
    ),
    "GET /v1/checkout/sessions/{session}/line_items": Scenario(
        lambda s: s.v1.checkout.sessions.line_items.list(s.checkout(), PAGE),
        lambda s: s.v1.checkout.sessions.line_items.list("cs_none"),
        404,
    ),
    "GET /v1/prices": Scenario(
        lambda s: (s.price(), s.v1.prices.list({"active": True, "currency": "idr", **PAGE})),
        lambda s: s.v1.prices.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/prices": Scenario(
        lambda s: s.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount_decimal": "0.0001",
                "product_data": {"name": "Tokens"},
                "recurring": {"interval": "month", "usage_type": "metered", "meter": s.meter().id},
                "lookup_key": uuid4().hex,
                "metadata": {"plan": "payg"},
            }
        ),
        lambda s: s.v1.prices.create({"currency": "usd", "unit_amount": 99, "product": "prod_none"}),
    ),
    "GET /v1/prices/{price}": Scenario(
        lambda s: s.v1.prices.retrieve(s.price()), lambda s: s.v1.prices.retrieve("price_none"), 404
    ),
    "POST /v1/prices/{price}": Scenario(
        lambda s: s.v1.prices.update(s.price(), {"active": False, "nickname": "Old"}),
        lambda s: s.v1.prices.update("price_none", {"active": False}),
        404,
    ),
    "GET /v1/products": Scenario(
        lambda s: (s.price(), s.v1.products.list({"active": True, **PAGE})),
        lambda s: s.v1.products.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/products": Scenario(
        lambda s: s.v1.products.create({"id": uuid4().hex, "name": "Basic", "metadata": {"plan": "basic"}}),
        lambda s: s.v1.products.create({"id": s.v1.products.create({"name": "Basic"}).id, "name": "Basic"}),
    ),
    "DELETE /v1/products/{id}": Scenario(
        lambda s: s.v1.products.delete(s.v1.products.create({"name": "Basic"}).id),
        lambda s: s.v1.products.delete("prod_none"),
        404,
    ),
    "GET /v1/products/{id}": Scenario(
        lambda s: s.v1.products.retrieve(s.v1.products.create({"name": "Basic"}).id),
        lambda s: s.v1.products.retrieve("prod_none"),
        404,
    ),
    "POST /v1/products/{id}": Scenario(
        lambda s: s.v1.products.update(s.v1.products.create({"name": "Basic"}).id, {"name": "Standard"}),
        lambda s: s.v1.products.update("prod_none", {"name": "Standard"}),
        404,
    ),
    "GET /v1/subscriptions": Scenario(
        lambda s: s.v1.subscriptions.list({"customer": s.subscription().customer, "status": "all"}),
        lambda s: s.v1.subscriptions.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/subscriptions": Scenario(
        lambda s: s.subscription(),
        lambda s: s.v1.subscriptions.create({"customer": s.payer(), "items": [{"price": "price_none"}]}),
    ),
    "DELETE /v1/subscriptions/{subscription_exposed_id}": Scenario(
        lambda s: s.v1.subscriptions.cancel(s.subscription().id, {"invoice_now": True, "prorate": False}),
        lambda s: s.v1.subscriptions.cancel("sub_none"),
        404,
    ),
    "GET /v1/subscriptions/{subscription_exposed_id}": Scenario(
        lambda s: s.v1.subscriptions.retrieve(s.subscription().id, {"expand": ["latest_invoice"]}),
        lambda s: s.v1.subscriptions.retrieve("sub_none"),
        404,
    ),
    "POST /v1/subscriptions/{subscription_exposed_id}": Scenario(
        lambda s: s.v1.subscriptions.update(s.subscription().id, {"cancel_at_period_end": True}),
        lambda s: s.v1.subscriptions.update("sub_none", {"cancel_at_period_end": True}),
        404,
    ),
    "POST /v1/subscriptions/{subscription}/pause": Scenario(
        lambda s: s.v1.subscriptions.pause(s.subscription().id),
        lambda s: s.v1.subscriptions.pause("sub_none"),
        404,
    ),
    "POST /v1/subscriptions/{subscription}/resume": Scenario(
        lambda s: s.v1.subscriptions.resume(
            s.v1.subscriptions.pause(s.subscription().id).id, {"billing_cycle_anchor": "unchanged"}
        ),
        lambda s: s.v1.subscriptions.resume("sub_none"),
        404,
    ),
}
