"""A shop at the sandbox: plans for sale, people who buy them, and Stripe's events carried to us by hand."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import stripe as sdk

from billing.settings import StripeLimits, StripeSettings
from billing.stripe.client import Stripe
from billing.subscriptions import catalogue, store
from billing.subscriptions.entitlements import review_due
from billing.subscriptions.model import Subscription, current
from billing.subscriptions.service import ReturnUrls, Subscriptions
from billing.webhooks.http import SNAPSHOT_PATH, endpoints
from billing.webhooks.service import Processor
from gateway.accounts import service as accounts
from gateway.db.pool import Pool
from tests.contract.stripe.contract import hold_to_contract

SECRET = "whsec_snapshot"
THIN_SECRET = "whsec_thin"
KEY = "sk_test_shop"
URLS = ReturnUrls(success="http://127.0.0.1:8081/billing?paid=1", cancel="http://127.0.0.1:8081/billing")
GOOD, FAILS_LATER, DECLINED = "4242", "0341", "0002"


class Shop:
    """Everything that buying needs, on one clock."""

    def __init__(self, db: Pool, clock, sandbox, stripe: Stripe, settings: StripeSettings) -> None:
        self.db = db
        self.clock = clock
        self.sandbox = sandbox
        self.stripe = stripe
        self.settings = settings
        self.subscriptions = Subscriptions(db, clock, stripe, settings.limits)
        self.processor = Processor(db, clock, stripe, settings)
        self.endpoints = endpoints(lambda: db, clock, settings)
        self._seen: set[str] = set()

    def move_to(self, moment: datetime) -> None:
        """Let time pass, here and at Stripe."""
        self.clock.moment = moment
        self.sandbox.move_to(int(moment.timestamp()))

    def move(self, **length: int) -> None:
        """Let so many days or hours pass."""
        self.move_to(self.clock.now() + timedelta(**length))

    async def buy(self, person, plan: str, card: str = GOOD) -> str:
        """Buy a plan at Checkout; return the page's address."""
        url = await self.subscriptions.start_checkout(person.account_id, plan, URLS)
        self.sandbox.submit(url, action="pay", card=card)
        return url

    async def subscribed(self, person, plan: str, card: str = GOOD) -> Subscription:
        """Buy a plan and hear of it."""
        await self.buy(person, plan, card)
        await self.catch_up()
        found = current(await store.subscriptions_of(self.db, person.account_id))
        assert found is not None
        return found

    async def use_card(self, person, card: str) -> None:
        """Put another card on file, as the portal does."""
        url = await self.subscriptions.portal_url(person.account_id, URLS.cancel)
        status, _ = self.sandbox.submit(url, action="card", card=card)
        assert status == 303

    async def pay_open_invoice(self, person) -> int:
        """Pay the oldest open invoice in the portal; return the page's status."""
        url = await self.subscriptions.portal_url(person.account_id, URLS.cancel)
        subscription = (await store.subscriptions_of(self.db, person.account_id))[-1]
        page = self.get(f"/v1/invoices?status=open&subscription={subscription.subscription_id}")
        status, _ = self.sandbox.submit(url, action="pay", target=page["data"][-1]["id"])
        return status

    def get(self, path: str) -> Any:
        """Ask the sandbox past the product."""
        headers = {"Authorization": f"Bearer {KEY}"}
        status, _, body = self.sandbox.send("GET", path, headers=headers)
        assert status == 200, body
        return json.loads(body)

    def events(self, path: str = "/v1/events") -> list[dict]:
        """All events so far, oldest first."""
        found: list[dict] = []
        after = ""
        while True:
            page = self.get(f"{path}?limit=100{after}")
            found += page["data"]
            if not page.get("has_more"):
                return found[::-1]
            after = f"&starting_after={found[-1]['id']}"

    def new_events(self) -> list[dict]:
        """The events since the last time."""
        fresh = [event for event in self.events() if event["id"] not in self._seen]
        self._seen |= {event["id"] for event in fresh}
        return fresh

    async def post(self, event: dict, *, path: str = SNAPSHOT_PATH, secret: str | None = None) -> int:
        """Deliver an event as Stripe does; return the status of the answer."""
        body = json.dumps(event).encode()
        secret = secret or (SECRET if path == SNAPSHOT_PATH else THIN_SECRET)
        header = sign(body, secret, int(self.clock.now().timestamp()))
        return await self.post_raw(body, header, path=path)

    async def post_raw(self, body: bytes, *headers: str, path: str = SNAPSHOT_PATH, method="POST") -> int:
        """Deliver a body with these signature headers."""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(b"stripe-signature", header.encode("latin-1")) for header in headers],
        }
        sent: list[dict] = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        await self.endpoints[path](scope, receive, send)
        return sent[0]["status"]

    async def catch_up(self) -> None:
        """Deliver what is new, work it off, and let time do its part."""
        for event in self.new_events():
            assert await self.post(event) == 200
        await self.processor.run()
        await review_due(self.db, self.clock, timedelta(days=self.settings.limits.payment_grace_days))

    async def standing(self, person) -> tuple[str, str]:
        """The plan and the status of an account."""
        account = await accounts.get(self.db, person.account_id)
        return account.plan_id, account.status.value


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Sign as the SDK's own verification expects it."""
    return sdk.WebhookSignature.generate_signature_header(
        payload=body.decode(), secret=secret, timestamp=timestamp
    )


@pytest.fixture
async def shop(seeded: Pool, clock, sandbox) -> AsyncIterator[Shop]:
    """A shop that is set up; all that it sends is held to Stripe's contract."""
    settings = StripeSettings(
        secret_key=KEY,
        webhook_secret=SECRET,
        thin_webhook_secret=THIN_SECRET,
        api_base=sandbox.url,
        limits=StripeLimits(stripe_timeout_s=10),
    )
    stripe = Stripe(settings)
    hold_to_contract(stripe._transport)
    made = Shop(seeded, clock, sandbox, stripe, settings)
    await catalogue.setup(seeded, clock, stripe)
    yield made
    await stripe.close()
