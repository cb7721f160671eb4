"""A request that Stripe takes and one that it refuses, for every operation on customers, money, events and time.

`test_stripe_operations` runs each row with the checked client.
"""

from tests.contract.stripe.sandbox import DAY_S
from tests.contract.stripe.stage import PAGE, TOO_LONG_A_PAGE, Scenario, destination, endpoint

CUSTOMERS = {
    "GET /v1/customers": Scenario(
        lambda s: (s.sari(), s.v1.customers.list({"email": "sari@example.com", **PAGE})),
        lambda s: s.v1.customers.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/customers": Scenario(
        lambda s: s.v1.customers.create(
            {
                "email": "sari@example.com",
                "name": "Sari",
                "address": {"country": "ID", "city": "Bandung"},
                "metadata": {"account": "7"},
            }
        ),
        lambda s: s.v1.customers.create({"nickname": "Sari"}),
    ),
    "DELETE /v1/customers/{customer}": Scenario(
        lambda s: s.v1.customers.delete(s.sari()), lambda s: s.v1.customers.delete("cus_nobody"), 404
    ),
    "GET /v1/customers/{customer}": Scenario(
        lambda s: (s.v1.customers.retrieve(s.sari()), s.v1.customers.retrieve(s.deleted_customer())),
        lambda s: s.v1.customers.retrieve("cus_nobody"),
        404,
    ),
    "POST /v1/customers/{customer}": Scenario(
        lambda s: s.v1.customers.update(s.sari(), {"name": "Sari W.", "metadata": {"account": "7"}}),
        lambda s: s.v1.customers.update("cus_nobody", {"name": "Nobody"}),
        404,
    ),
    "GET /v1/customers/{customer}/payment_methods": Scenario(
        lambda s: s.v1.customers.payment_methods.list(s.payer(), {"type": "card", **PAGE}),
        lambda s: s.v1.customers.payment_methods.list(s.payer(), TOO_LONG_A_PAGE),
    ),
    "GET /v1/payment_methods": Scenario(
        lambda s: s.v1.payment_methods.list({"customer": s.payer(), "type": "card"}),
        lambda s: s.v1.payment_methods.list({"customer": "cus_nobody", "type": "card"}),
    ),
    "GET /v1/payment_methods/{payment_method}": Scenario(
        lambda s: s.v1.payment_methods.retrieve(s.card(), {"expand": ["customer"]}),
        lambda s: s.v1.payment_methods.retrieve("pm_none"),
        404,
    ),
    "POST /v1/payment_methods/{payment_method}/attach": Scenario(
        lambda s: s.v1.payment_methods.attach("pm_card_visa", {"customer": s.sari()}),
        lambda s: s.v1.payment_methods.attach("pm_card_visa_chargeDeclined", {"customer": s.sari()}),
        402,
    ),
    "POST /v1/payment_methods/{payment_method}/detach": Scenario(
        lambda s: s.v1.payment_methods.detach(s.card()),
        lambda s: s.v1.payment_methods.detach("pm_none"),
        404,
    ),
}
MONEY = {
    "GET /v1/charges": Scenario(
        lambda s: s.charge(),
        lambda s: s.v1.charges.list(TOO_LONG_A_PAGE),
    ),
    "GET /v1/charges/{charge}": Scenario(
        lambda s: s.v1.charges.retrieve(s.charge().id, {"expand": ["customer"]}),
        lambda s: s.v1.charges.retrieve("ch_none"),
        404,
    ),
    "GET /v1/disputes": Scenario(
        lambda s: s.v1.disputes.list({"charge": s.dispute()["charge"]}),
        lambda s: s.v1.disputes.list(TOO_LONG_A_PAGE),
    ),
    "GET /v1/disputes/{dispute}": Scenario(
        lambda s: s.v1.disputes.retrieve(s.dispute()["id"], {"expand": ["charge"]}),
        lambda s: s.v1.disputes.retrieve("du_none"),
        404,
    ),
    "GET /v1/invoiceitems": Scenario(
        lambda s: s.v1.invoice_items.list({"customer": s.item().customer, "pending": True}),
        lambda s: s.v1.invoice_items.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/invoiceitems": Scenario(
        lambda s: s.v1.invoice_items.create(
            {
                "customer": s.payer(),
                "currency": "idr",
                "unit_amount_decimal": "0.1",
                "quantity": 12,
                "description": "Late usage",
                "period": {"start": s.now - DAY_S, "end": s.now},
                "metadata": {"why": "late"},
            }
        ),
        lambda s: s.item("cus_nobody"),
    ),
    "DELETE /v1/invoiceitems/{invoiceitem}": Scenario(
        lambda s: s.v1.invoice_items.delete(s.item().id),
        lambda s: s.v1.invoice_items.delete("ii_none"),
        404,
    ),
    "GET /v1/invoiceitems/{invoiceitem}": Scenario(
        lambda s: s.v1.invoice_items.retrieve(s.item().id),
        lambda s: s.v1.invoice_items.retrieve("ii_none"),
        404,
    ),
    "GET /v1/invoices": Scenario(
        lambda s: (s.draft(), s.v1.invoices.list({"status": "draft", **PAGE})),
        lambda s: s.v1.invoices.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/invoices": Scenario(
        lambda s: s.v1.invoices.create(
            {
                "customer": s.payer(),
                "currency": "idr",
                "description": "By hand",
                "auto_advance": False,
                "metadata": {"why": "by hand"},
            }
        ),
        lambda s: s.v1.invoices.create({"customer": "cus_nobody"}),
    ),
    "POST /v1/invoices/create_preview": Scenario(
        lambda s: s.v1.invoices.create_preview({"subscription": s.subscription().id}),
        lambda s: s.v1.invoices.create_preview({"customer": s.sari()}),
        404,
    ),
    "DELETE /v1/invoices/{invoice}": Scenario(
        lambda s: s.v1.invoices.delete(s.draft()), lambda s: s.v1.invoices.delete("in_none"), 404
    ),
    "GET /v1/invoices/{invoice}": Scenario(
        lambda s: s.v1.invoices.retrieve(s.subscription().latest_invoice, {"expand": ["customer"]}),
        lambda s: s.v1.invoices.retrieve("in_none"),
        404,
    ),
    "POST /v1/invoices/{invoice}": Scenario(
        lambda s: s.v1.invoices.update(s.draft(), {"description": "By hand", "metadata": {"why": "by hand"}}),
        lambda s: s.v1.invoices.update("in_none", {"description": "By hand"}),
        404,
    ),
    "POST /v1/invoices/{invoice}/finalize": Scenario(
        lambda s: s.open_invoice(), lambda s: s.v1.invoices.finalize_invoice("in_none"), 404
    ),
    "GET /v1/invoices/{invoice}/lines": Scenario(
        lambda s: s.v1.invoices.line_items.list(s.subscription().latest_invoice, PAGE),
        lambda s: s.v1.invoices.line_items.list("in_none"),
        404,
    ),
    "POST /v1/invoices/{invoice}/mark_uncollectible": Scenario(
        lambda s: s.v1.invoices.mark_uncollectible(s.open_invoice()),
        lambda s: s.v1.invoices.mark_uncollectible("in_none"),
        404,
    ),
    "POST /v1/invoices/{invoice}/pay": Scenario(
        lambda s: s.v1.invoices.pay(s.open_invoice()),
        lambda s: s.v1.invoices.pay(s.open_invoice(card="pm_card_chargeCustomerFail")),
        402,
    ),
    "POST /v1/invoices/{invoice}/void": Scenario(
        lambda s: s.v1.invoices.void_invoice(s.open_invoice()),
        lambda s: s.v1.invoices.void_invoice("in_none"),
        404,
    ),
}
NEWS = {
    "GET /v1/events": Scenario(
        lambda s: (s.sari(), s.v1.events.list({"types": ["customer.created"], **PAGE})),
        lambda s: s.v1.events.list(TOO_LONG_A_PAGE),
    ),
    "GET /v1/events/{id}": Scenario(
        lambda s: (s.sari(), s.v1.events.retrieve(s.v1.events.list(PAGE).data[0].id)),
        lambda s: s.v1.events.retrieve("evt_none"),
        404,
    ),
    "GET /v1/webhook_endpoints": Scenario(
        lambda s: (s.endpoint(), s.v1.webhook_endpoints.list(PAGE)),
        lambda s: s.v1.webhook_endpoints.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/webhook_endpoints": Scenario(
        lambda s: s.v1.webhook_endpoints.create(endpoint()),
        lambda s: s.v1.webhook_endpoints.create(endpoint("nowhere")),
    ),
    "DELETE /v1/webhook_endpoints/{webhook_endpoint}": Scenario(
        lambda s: s.v1.webhook_endpoints.delete(s.endpoint()),
        lambda s: s.v1.webhook_endpoints.delete("we_none"),
        404,
    ),
    "GET /v1/webhook_endpoints/{webhook_endpoint}": Scenario(
        lambda s: s.v1.webhook_endpoints.retrieve(s.endpoint()),
        lambda s: s.v1.webhook_endpoints.retrieve("we_none"),
        404,
    ),
    "POST /v1/webhook_endpoints/{webhook_endpoint}": Scenario(
        lambda s: s.v1.webhook_endpoints.update(
            s.endpoint(), {"disabled": True, "description": "Old", "enabled_events": ["*"]}
        ),
        lambda s: s.v1.webhook_endpoints.update("we_none", {"disabled": True}),
        404,
    ),
    "GET /v2/core/event_destinations": Scenario(
        lambda s: (
            s.destination(),
            s.v2.core.event_destinations.list({"include": ["webhook_endpoint.url"], **PAGE}),
        ),
        lambda s: s.v2.core.event_destinations.list({"include": ["everything"]}),
    ),
    "POST /v2/core/event_destinations": Scenario(
        lambda s: s.v2.core.event_destinations.create(destination()),
        lambda s: s.v2.core.event_destinations.create(destination("nowhere")),
    ),
    "DELETE /v2/core/event_destinations/{id}": Scenario(
        lambda s: s.v2.core.event_destinations.delete(s.destination()),
        lambda s: s.v2.core.event_destinations.delete("ed_none"),
        404,
    ),
    "GET /v2/core/event_destinations/{id}": Scenario(
        lambda s: s.v2.core.event_destinations.retrieve(
            s.destination(), {"include": ["webhook_endpoint.url"]}
        ),
        lambda s: s.v2.core.event_destinations.retrieve("ed_none"),
        404,
    ),
    "POST /v2/core/event_destinations/{id}/disable": Scenario(
        lambda s: s.v2.core.event_destinations.disable(s.destination()),
        lambda s: s.v2.core.event_destinations.disable("ed_none"),
        404,
    ),
    "POST /v2/core/event_destinations/{id}/enable": Scenario(
        lambda s: s.v2.core.event_destinations.enable(
            s.v2.core.event_destinations.disable(s.destination()).id
        ),
        lambda s: s.v2.core.event_destinations.enable("ed_none"),
        404,
    ),
    "GET /v2/core/events": Scenario(
        lambda s: (s.thin_event(), s.v2.core.events.list({"limit": 1})),
        lambda s: s.v2.core.events.list({"limit": "many"}),
    ),
    "GET /v2/core/events/{id}": Scenario(
        lambda s: s.v2.core.events.retrieve(s.thin_event()),
        lambda s: s.v2.core.events.retrieve("evt_none"),
        404,
    ),
}
TIME = {
    "GET /v1/test_helpers/test_clocks": Scenario(
        lambda s: (s.clock(), s.v1.test_helpers.test_clocks.list(PAGE)),
        lambda s: s.v1.test_helpers.test_clocks.list(TOO_LONG_A_PAGE),
    ),
    "POST /v1/test_helpers/test_clocks": Scenario(
        lambda s: s.v1.test_helpers.test_clocks.create({"frozen_time": s.now, "name": "Ours"}),
        lambda s: s.v1.test_helpers.test_clocks.create({"frozen_time": "noon"}),
    ),
    "DELETE /v1/test_helpers/test_clocks/{test_clock}": Scenario(
        lambda s: s.v1.test_helpers.test_clocks.delete(s.clock()),
        lambda s: s.v1.test_helpers.test_clocks.delete("clock_none"),
        404,
    ),
    "GET /v1/test_helpers/test_clocks/{test_clock}": Scenario(
        lambda s: s.v1.test_helpers.test_clocks.retrieve(s.clock()),
        lambda s: s.v1.test_helpers.test_clocks.retrieve("clock_none"),
        404,
    ),
    "POST /v1/test_helpers/test_clocks/{test_clock}/advance": Scenario(
        lambda s: s.v1.test_helpers.test_clocks.advance(s.clock(), {"frozen_time": s.now + DAY_S}),
        lambda s: s.v1.test_helpers.test_clocks.advance("clock_none", {"frozen_time": s.now + DAY_S}),
        404,
    ),
}
