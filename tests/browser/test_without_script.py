"""Without JavaScript every page can be read, and every form of the portal does what it says."""

import re

import pytest
from playwright.sync_api import expect

from admin.app import AdminApp
from tests.browser.conftest import PASSWORD, code_now
from tests.browser.test_every_page import INSIDE, PUBLIC, filled
from tests.plugins.portal import portal_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NEW_PASSWORD = "teh manis panas sekali"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
PARAMETER = re.compile(r"\{\w+:\w+\}")
FOR_SCRIPTS = frozenset({"/playground/run", "/playground/code"})
"""What only a script asks for; the form of the playground does the same without one."""

PAY_S = 60


def forms_of_the_application() -> set[str]:
    """Every address that takes a form, with its ids left out."""
    framework = AdminApp(portal_settings(), lambda: None).framework
    found = {
        PARAMETER.sub("…", route.path)
        for route in framework.routes
        for handler in route.route_handlers
        if "POST" in handler.http_methods
    }
    return found - FOR_SCRIPTS


class Reader:
    """A browser without JavaScript, which keeps the addresses that it has sent forms to."""

    def __init__(self, installation, chromium, state: dict | None = None) -> None:
        self.context = chromium.new_context(java_script_enabled=False, locale="en-GB", storage_state=state)
        self.page = self.context.new_page()
        self.url = installation.url
        self.sent: set[str] = set()
        self.context.on("request", self._keep)

    def _keep(self, request) -> None:
        if request.method == "POST":
            path = request.url.removeprefix(self.url).partition("?")[0]
            self.sent.add(ID.sub("…", path) if not path.startswith("/billing/plans/") else "/billing/plans/…")

    def open(self, path: str) -> None:
        self.page.goto(path if path.startswith("http") else self.url + path)

    def send(self, button: str, **fields: str) -> None:
        """Fill the fields of the page and press a button of its content."""
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)
        self.page.locator("main").get_by_role("button", name=button, exact=True).first.click()

    def leaves(self) -> None:
        """Go on to a page that is not the product's."""
        self.page.wait_for_url(lambda address: not address.startswith(self.url))

    def says(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()


def come_in(reader: Reader, phone: Reader, installation) -> str:
    """Sign up, ask for another mail, and follow its link with another browser."""
    address = installation.new_address()
    reader.open("/signup")
    reader.send("Sign up", email=address, password=PASSWORD)
    reader.says("Look into your mailbox")
    reader.send("Send it again")
    reader.says("Please wait")
    phone.open(installation.link_to(phone.page, address))
    phone.send("Confirm and continue", password=PASSWORD)
    phone.page.wait_for_url("**/start")
    reader.open("/login")
    reader.send("Log in", email=address, password=PASSWORD)
    reader.page.wait_for_url("**/usage")
    return address


def use_keys(reader: Reader) -> None:
    reader.open("/start")
    reader.send("Make my first key")
    reader.says("nsk_live_")
    reader.open("/keys/new")
    reader.send("Make the key", name="blog server", monthly_tokens="2,000")
    reader.says("nsk_live_")
    reader.open("/keys")
    reader.page.get_by_role("link", name="Rotate blog server").click()
    reader.send("Rotate the key")
    reader.says("nsk_live_")
    reader.open("/keys")
    reader.page.get_by_role("link", name="Revoke first key").click()
    reader.send("Revoke the key")
    reader.says("The key is revoked.")


def pay(reader: Reader) -> None:
    """Buy a plan on the sandbox's page, leave it, keep it, cap it, and look at the card."""
    reader.open("/billing/plans/basic")
    reader.send("Go on to payment at Stripe")
    reader.page.locator("button[value=pay]").click()
    for _ in range(PAY_S):
        if reader.page.get_by_text("Your plan is Basic now.").is_visible():
            break
        reader.page.get_by_role("link", name="Look whether it has arrived").click()
    reader.says("Your plan is Basic now.")
    reader.open("/billing/cancel")
    reader.send("Cancel the plan")
    reader.send("Take it back, keep the plan")
    reader.open("/billing/cap")
    reader.send("Set the cap", tokens="50,000")
    reader.open("/billing/cap")
    reader.send("Remove the cap")
    reader.open("/billing/credit")
    reader.page.locator("input[name=choice]").first.check()
    reader.send("Go on to payment at Stripe")
    reader.leaves()
    reader.open("/billing")
    reader.send("Card and invoices at Stripe")
    reader.leaves()
    reader.open("/billing/cancel")
    reader.send("Cancel the plan")


def play_and_be_warned(reader: Reader) -> None:
    reader.open("/playground")
    reader.page.locator("main textarea").last.fill("Apa kabar?")
    reader.send("Send")
    reader.says("tokens")
    reader.open("/limits")
    reader.page.locator('form[action="/limits/alerts"] button').click()


def change_oneself(reader: Reader, phone: Reader) -> None:
    reader.open("/confirm")
    reader.send("Confirm", password=PASSWORD)
    reader.open("/settings/second-factor")
    secret = reader.page.locator("#totp-secret").inner_text()
    reader.send("Turn it on", code=code_now(secret))
    reader.says("Your recovery codes")
    reader.open("/settings")
    reader.send("New recovery codes")
    code = reader.page.locator(".recovery-codes li").first.inner_text()
    reader.open("/settings")
    reader.page.get_by_role("row", name="this one").get_by_role("button", name="Log out").click()
    reader.says("You are logged out.")
    reader.send("Log in", email=reader.address, password=PASSWORD)
    reader.send("Continue", code=code)
    reader.open("/settings")
    reader.send("Log out all others")
    reader.says("All other browsers are logged out.")
    phone.open("/usage")
    assert "/login" in phone.page.url
    reader.open("/settings/second-factor/off")
    reader.send("Turn it off", password=PASSWORD)
    reader.says("The second factor is off.")
    reader.open("/settings")
    reader.send("Change the password", current=PASSWORD, password=NEW_PASSWORD)
    reader.says("Your password is changed")
    reader.page.locator('footer button[value="dark"]').click()
    expect(reader.page.locator("html")).to_have_attribute("data-theme", "dark")


def leave(reader: Reader, installation) -> None:
    reader.page.locator('form[action="/logout"] button').click()
    reader.says("You are logged out.")
    reader.open("/reset")
    reader.send("Send the link", email=reader.address)
    reader.open(installation.link_to(reader.page, reader.address))
    reader.send("Set the password", password=PASSWORD)
    reader.says("Your new password is set.")
    reader.send("Log in", email=reader.address, password=PASSWORD)
    reader.open("/settings/close")
    reader.send("Close the account", email=reader.address)
    reader.says("Your account is closed.")


def test_every_form_does_what_it_says(installation, chromium):
    reader, phone = Reader(installation, chromium), Reader(installation, chromium)
    reader.address = come_in(reader, phone, installation)
    use_keys(reader)
    pay(reader)
    play_and_be_warned(reader)
    change_oneself(reader, phone)
    leave(reader, installation)
    assert forms_of_the_application() - reader.sent - phone.sent == set()
    reader.context.close()
    phone.context.close()


def test_every_page_can_be_read(installation, chromium, inside):
    """What a script would add is never the only way: every page has its heading and nothing that only waits."""
    reader = Reader(installation, chromium, inside)
    bare = {}
    for path in [*PUBLIC, *INSIDE]:
        reader.open(filled(reader.page, installation.url, path))
        main = reader.page.locator("main")
        assert reader.page.locator(".error-page").count() == (path == "/nothing"), path
        if reader.page.locator("h1").count() != 1 or len(main.inner_text()) < 60:
            bare[path] = main.inner_text()
    assert bare == {}
    reader.context.close()
