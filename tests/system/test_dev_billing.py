"""A plan's whole life on a laptop: bought, in force, not paid for, stopped, paid, cancelled, over.

Everything runs as ``nusagate dev`` starts it, the sandbox of Stripe and its webhooks included; time is moved there.
"""

import asyncio
import http.client
import json
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest

from billing.settings import load_stripe_settings
from billing.stripe.client import Stripe
from billing.stripe.clock import plan_clock
from billing.subscriptions.service import ReturnUrls, Subscriptions
from gateway.clock import SystemClock
from gateway.db.pool import open_pool
from gateway.runtime.settings import Limits
from tests.fakes.processes import POLL_S
from tests.system.development import Dev

pytestmark = pytest.mark.slow

SOON_S = 45
GOOD, FAILS_LATER = "4242", "0341"
URLS = ReturnUrls(success="http://127.0.0.1:1/paid", cancel="http://127.0.0.1:1/billing")
FREE, STANDARD = (200, "20"), (200, "100")
STOPPED = (402, "payment_required")


class Customer:
    """The demo account's owner, who uses the API, the pages of the sandbox, and nothing else."""

    def __init__(self, dev: Dev) -> None:
        self.dev = dev

    def call(self) -> tuple[int, str]:
        """Make a call; return its status, and the plan's requests a minute or the error's code."""
        request = urllib.request.Request(
            f"{self.dev.file['gateway_url']}/v1/responses",
            json.dumps({"model": "nusantara-base", "input": "Halo", "max_output_tokens": 16}).encode(),
            {"authorization": f"Bearer {self.dev.file['api_key']}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["x-ratelimit-limit-requests"]
        except HTTPError as error:
            return error.code, json.load(error)["error"]["code"]

    def comes_to(self, wanted: tuple[int, str]) -> None:
        """Call until the gateway answers like this."""
        until(self.call, wanted)

    def is_told(self, notice: str) -> None:
        """Look until the account shows this notice."""
        until(lambda: self.bought()["entitlement"]["notice"], notice)

    def buy(self, plan: str, card: str) -> None:
        """Choose a plan in the portal, and pay at Stripe's Checkout."""
        url = asyncio.run(self._asked(lambda shop, account_id: shop.start_checkout(account_id, plan, URLS)))
        assert submit(url, action="pay", card=card) == (303, URLS.success)

    def stripe_page(self) -> str:
        """Open Stripe's page for cards and invoices."""
        return asyncio.run(self._asked(lambda shop, account_id: shop.portal_url(account_id, URLS.cancel)))

    def bought(self) -> dict:
        """What the operator's command says about the account."""
        status, shown = self.dev.answer("subscription", "show", "--account", self.dev.file["account_id"])
        assert status == 0, shown
        return shown

    def let_pass(self, step: str) -> None:
        """Let time pass on the sandbox's first page."""
        assert submit(self.dev.file["sandbox_url"] + "/", action=step) == (303, "/")

    def open_invoice(self) -> str:
        """The invoice that is not paid, as the sandbox knows it."""
        state = json.loads((self.dev.data / "stripe.json").read_text())
        (invoice,) = [value for value in state["objects"]["invoice"].values() if value["status"] == "open"]
        return invoice["id"]

    def subscription_id(self) -> str:
        return self.bought()["subscriptions"][0]["subscription_id"]

    async def _asked(self, ask) -> str:
        """Ask what the portal asks, with the settings that ``nusagate dev`` gave it."""
        lines = (self.dev.data / "dev.env").read_text().splitlines()
        settings = load_stripe_settings(dict(line.split("=", 1) for line in lines))
        assert settings is not None
        db = await open_pool(self.dev.file["database_url"], Limits(), application="tests")
        stripe = Stripe(settings)
        shop = Subscriptions(db, plan_clock(SystemClock(), settings), stripe, settings.limits)
        try:
            return await ask(shop, UUID(self.dev.file["account_id"]))
        finally:
            await stripe.close()
            await db.close()


def until(look, wanted) -> None:
    """Look again until it is so."""
    deadline_s = time.monotonic() + SOON_S
    while (found := look()) != wanted:
        assert time.monotonic() < deadline_s, f"{found} did not become {wanted}"
        time.sleep(POLL_S)


def submit(url: str, **form: str) -> tuple[int, str]:
    """Submit a form of the sandbox's as a browser does; return the status and where it leads."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    try:
        headers = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{place.netloc}"}
        connection.request("POST", place.path, urlencode(form), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("location", "")
    finally:
        connection.close()


@pytest.fixture
def dev(tmp_path: Path):
    made = Dev(tmp_path)
    yield made
    made.stop()


def test_a_plan_is_bought_owed_for_stopped_paid_and_cancelled_without_internet(dev):
    sari = Customer(dev)
    with dev.running():
        # In the last half hour of a month nothing is sold, so the month begins first.
        sari.let_pass("month")
        assert sari.call() == FREE
        sari.buy("standard", FAILS_LATER)
        sari.comes_to(STANDARD)
    with dev.running():
        assert sari.call() == STANDARD
        sari.let_pass("month")
        sari.is_told("payment_failed")
        assert sari.call() == STANDARD
        sari.let_pass("week")
        sari.comes_to(STOPPED)
        assert submit(sari.stripe_page(), action="card", card=GOOD)[0] == 303
        assert submit(sari.stripe_page(), action="pay", target=sari.open_invoice())[0] == 303
        sari.comes_to(STANDARD)
        assert submit(sari.stripe_page(), action="cancel", target=sari.subscription_id())[0] == 303
        sari.is_told("plan_ends")
        assert sari.call() == STANDARD
        sari.let_pass("month")
        sari.comes_to(FREE)


def test_who_bought_at_a_sandbox_that_is_gone_can_buy_again(dev):
    """The customer in Postgres is unknown to a sandbox that begins anew; a new one takes its place."""
    sari = Customer(dev)
    with dev.running():
        sari.let_pass("month")
        asyncio.run(sari._asked(lambda shop, account_id: shop.start_checkout(account_id, "basic", URLS)))
        before = sari.bought()["customer"]["customer_id"]
    for name in ("stripe.json", "stripe.clock"):
        (dev.data / name).unlink()
    with dev.running():
        sari.let_pass("month")
        sari.buy("standard", GOOD)
        sari.comes_to(STANDARD)
        assert sari.bought()["customer"]["customer_id"] != before
