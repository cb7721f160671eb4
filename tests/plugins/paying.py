"""Somebody who pays: with a browser in the portal, and on the pages of the sandbox that stands in for Stripe."""

from datetime import UTC, datetime, timedelta

import pytest

from admin.web.parts import Till
from gateway.accounts import service as accounts
from tests.plugins.portal import Portal, portal_settings, text_of
from tests.plugins.shop import GOOD, Shop

SARI = "sari@example.com"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
COLLECTED = timedelta(hours=1, minutes=1)
"""An invoice is finalized an hour after the month began, and collected then."""


class Customer:
    """Somebody with a browser, at the portal and at Stripe's pages."""

    def __init__(self, portal: Portal, shop: Shop, browser, account_id) -> None:
        self.portal = portal
        self.shop = shop
        self.browser = browser
        self.account_id = account_id

    async def read(self, path: str = "/billing") -> str:
        return text_of(await self.browser.get(path))

    async def goes_on(self, path: str, **fields: str) -> str:
        """Send a form that leads to Stripe; return where to."""
        answer = await self.browser.post(path, follow=False, fields=fields)
        assert answer.status_code == 303, text_of(answer)
        address = answer.headers["location"]
        assert address.startswith(self.shop.sandbox.url), address
        return address

    async def buys(self, plan: str, card: str = GOOD) -> str:
        """Buy a plan and come back; return where Stripe led to."""
        address = await self.goes_on(f"/billing/plans/{plan}", step="buy")
        _, back = self.shop.sandbox.submit(address, action="pay", card=card)
        return back

    async def has(self, plan: str, card: str = GOOD) -> "Customer":
        """Have a plan that is paid."""
        await self.buys(plan, card)
        await self.shop.catch_up()
        return self

    async def comes_at(self, moment: datetime) -> None:
        """Log in again at a moment."""
        self.shop.move_to(moment)
        await self.shop.catch_up()
        assert (await self.browser.login(SARI)).status_code == 200

    async def standing(self) -> tuple[str, str]:
        account = await accounts.get(self.portal.db, self.account_id)
        return account.plan_id, account.status.value


async def customer(portal: Portal, shop: Shop, address: str, network: str = "192.0.2.1") -> Customer:
    browser = await portal.browser(network=network).join(address)
    account_id = await portal.db.fetchval("SELECT account_id FROM person WHERE email = $1", address)
    return Customer(portal, shop, browser, account_id)


@pytest.fixture
def paying(shop: Shop) -> Portal:
    """The portal of an installation with Stripe."""
    till = Till(stripe=shop.stripe, limits=shop.settings.limits, clock=shop.clock)
    return Portal(shop.db, shop.clock, portal_settings(), stripe=shop.settings, till=till)


@pytest.fixture
async def payer(paying: Portal, shop: Shop) -> Customer:
    """Sari, who is inside and has paid for nothing yet."""
    return await customer(paying, shop, SARI)
