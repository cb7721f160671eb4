"""What the scenarios of the contract stand on: the checked client, the time there, and things that they may need."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

import stripe

from tests.contract.stripe.sandbox import HOUR_S, SandboxProcess
from tests.contract.stripe.seed import EVENT, event_of, flat, new_meter, paying_sari, sari

PAGE = {"limit": 1}
TOO_LONG_A_PAGE = {"limit": 1_000}
BACK = "http://127.0.0.1:8081/billing"
HOOK = "http://127.0.0.1:9/hook"
METERED_SCOPE = {"price_type": "metered"}


class Stage:
    """One client of one test, and what it makes there."""

    def __init__(self, client: stripe.StripeClient, now: int, sandbox: Callable[[], SandboxProcess]) -> None:
        self.client = client
        self.now = now
        self._sandbox = sandbox

    @property
    def v1(self):
        """The older of Stripe's APIs."""
        return self.client.v1

    @property
    def v2(self):
        """The newer one."""
        return self.client.v2

    @property
    def sandbox(self) -> SandboxProcess:
        """The levers of the sandbox; a scenario that pulls one does not run against Stripe itself."""
        return self._sandbox()

    def sari(self) -> str:
        """Make a customer."""
        return sari(self.client).id

    def deleted_customer(self) -> str:
        """Make a customer and delete it."""
        return self.v1.customers.delete(self.sari()).id

    def payer(self, card: str = "pm_card_visa") -> str:
        """Make a customer with a card on file."""
        return paying_sari(self.client, card).id

    def card(self) -> str:
        """Make a card that belongs to a customer."""
        return self.v1.payment_methods.attach("pm_card_visa", {"customer": self.sari()}).id

    def meter(self) -> stripe.billing.Meter:
        """Make a meter."""
        return new_meter(self.client, f"{EVENT}_{uuid4().hex[:8]}")

    def price(self) -> str:
        """Make a flat price of Rp 9,999 a month."""
        return flat(self.client, "Basic", 999_900).id

    def subscription(self) -> stripe.Subscription:
        """Make a subscription that is paid."""
        return self.v1.subscriptions.create({"customer": self.payer(), "items": [{"price": self.price()}]})

    def charge(self) -> stripe.Charge:
        """Make a charge, by paying for the first month of a subscription."""
        subscription = self.subscription()
        [charge] = self.v1.charges.list({"customer": subscription.customer, **PAGE}).data
        return charge

    def dispute(self) -> dict:
        """Dispute a charge."""
        return self.sandbox.post("disputes", charge=self.charge().id)

    def item(self, customer: str | None = None) -> stripe.InvoiceItem:
        """Let Rp 50 wait for the next invoice."""
        params = {"customer": customer or self.payer(), "amount": 5_000, "currency": "idr"}
        return self.v1.invoice_items.create(params)

    def draft(self, card: str = "pm_card_visa") -> str:
        """Make an invoice of one item."""
        params = {"currency": "idr", "pending_invoice_items_behavior": "include"}
        return self.v1.invoices.create({"customer": self.item(self.payer(card)).customer, **params}).id

    def open_invoice(self, card: str = "pm_card_visa") -> str:
        """Make an invoice that waits to be paid."""
        return self.v1.invoices.finalize_invoice(self.draft(card), {"auto_advance": False}).id

    def checkout(self) -> str:
        """Open a page on which a plan can be bought."""
        return self.v1.checkout.sessions.create(checkout(self.sari(), self.price())).id

    def grant(self) -> str:
        """Give Rp 600 of credit."""
        return self.v1.billing.credit_grants.create(credit(self.sari())).id

    def clock(self) -> str:
        """Make a test clock."""
        return self.v1.test_helpers.test_clocks.create({"frozen_time": self.now}).id

    def endpoint(self) -> str:
        """Make a v1 webhook endpoint."""
        return self.v1.webhook_endpoints.create(endpoint()).id

    def destination(self) -> str:
        """Make a v2 event destination."""
        return self.v2.core.event_destinations.create(destination()).id

    def counted(self, identifier: str) -> dict:
        """Send a meter event that can be taken back; return the parameters for that."""
        name = self.meter().event_name
        self.v1.billing.meter_events.create(event_of(name, self.sari(), 5, self.now, identifier))
        return {"event_name": name, "type": "cancel", "cancel": {"identifier": identifier}}

    def v2_event(self, customer: str | None = None) -> dict:
        """Write a meter event for v2, whose times are texts."""
        event = event_of(self.meter().event_name, customer or self.sari(), 5, self.now, uuid4().hex)
        return {**event, "timestamp": datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def thin_event(self) -> str:
        """Have a meter event found wrong, which v2 reports as an event."""
        self.v2.billing.meter_events.create(self.v2_event("cus_nobody"))
        self.sandbox.advance(10)
        return self.v2.core.events.list().data[0].id

    def session_token(self) -> stripe.RequestOptions:
        """Open a session for the stream."""
        return {"api_key": self.v2.billing.meter_event_session.create().authentication_token}

    def hour(self) -> dict:
        """Write the hour that holds the present."""
        start = self.now - self.now % HOUR_S
        return {"start_time": start, "end_time": start + HOUR_S}


class Scenario(NamedTuple):
    """A request that is taken, one that is refused, and the status of the refusal."""

    works: Callable[[Stage], object]
    refused: Callable[[Stage], object]
    status: int = 400


def checkout(customer: str, price: str) -> dict:
    """Write what opens a page for a plan."""
    return {
        "mode": "subscription",
        "customer": customer,
        "line_items": [{"price": price, "quantity": 1}],
        "success_url": BACK,
        "cancel_url": BACK,
        "client_reference_id": "account-7",
        "metadata": {"account": "7"},
        "subscription_data": {"metadata": {"account": "7"}},
    }


def credit(customer: str) -> dict:
    """Write what gives credit for metered prices."""
    return {
        "customer": customer,
        "name": "Welcome",
        "category": "promotional",
        "amount": {"type": "monetary", "monetary": {"currency": "idr", "value": 60_000}},
        "applicability_config": {"scope": METERED_SCOPE},
        "metadata": {"why": "welcome"},
    }


def summary_of(customer: str) -> dict:
    """Write what asks for a customer's credit."""
    return {
        "customer": customer,
        "filter": {"type": "applicability_scope", "applicability_scope": METERED_SCOPE},
    }


def endpoint(url: str = HOOK) -> dict:
    """Write what makes a v1 webhook endpoint."""
    return {"url": url, "enabled_events": ["invoice.paid"], "description": "Nusagate"}


def destination(url: str = HOOK) -> dict:
    """Write what makes a v2 event destination, with what it shows on request."""
    return {
        "name": "Nusagate",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["v1.billing.meter.error_report_triggered"],
        "webhook_endpoint": {"url": url},
        "include": ["webhook_endpoint.url", "webhook_endpoint.signing_secret"],
    }
