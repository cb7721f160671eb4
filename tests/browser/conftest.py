"""A real Chromium on the whole product: ``nusagate dev`` on free ports, and pages that must break no rule."""

import base64
import contextlib
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from admin.access.totp import code_at, step_of
from tests.browser.checks import WATCH
from tests.fakes.processes import ChildProcess, free_port

READY_S = 90
PAID_S = 60
PASSWORD = "kopi susu hangat sore"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")
PORT_OPTIONS = ("--port", "--admin-port", "--worker-port", "--simulator-port", "--sandbox-port")


class Installation:
    """What ``nusagate dev`` says about itself, and people with an account there."""

    def __init__(self, facts: dict[str, str]) -> None:
        self.url = facts["admin_url"]
        self.gateway_url = facts["gateway_url"]
        self.database_url = facts["database_url"]
        self._numbers = itertools.count(1)

    def new_address(self) -> str:
        return f"sari{next(self._numbers)}@example.com"

    def ask_to_sign_up(self, page: Page, address: str) -> None:
        """Send the form of a sign-up as a person does."""
        page.goto(f"{self.url}/signup")
        page.locator("#email").fill(address)
        page.locator("#password").fill(PASSWORD)
        page.locator("main form button").click()
        page.wait_for_url("**/signup/sent")

    def link_to(self, page: Page, address: str) -> str:
        """The link of the latest mail to somebody."""
        page.goto(f"{self.url}/dev/mail")
        href = page.locator(".letter", has_text=address).first.locator("a").get_attribute("href")
        assert href is not None
        return href

    def sign_up(self, page: Page, address: str) -> None:
        """Sign up as a person does, and follow the link of the mail."""
        self.ask_to_sign_up(page, address)
        page.goto(self.link_to(page, address))
        page.wait_for_url("**/start")

    def buy(self, page: Page, plan: str) -> None:
        """Buy a plan with a good card, and wait until it is there."""
        page.goto(f"{self.url}/billing/plans")
        page.get_by_role("link", name=f"Choose {plan}").click()
        page.get_by_role("button", name="Go on to payment at Stripe").click()
        page.get_by_role("button", name="Pay", exact=True).click()
        page.get_by_role("heading", name=f"Your plan is {plan} now.").wait_for(timeout=PAID_S * 1000)

    def log_in(self, page: Page, address: str) -> None:
        """Log in with the password of everybody."""
        page.goto(f"{self.url}/login")
        page.locator("#email").fill(address)
        page.locator("#password").fill(PASSWORD)
        page.locator("main form button").click()

    def turn_second_factor_on(self, page: Page) -> str:
        """Turn it on as a person does, and return the app's secret; the recovery codes are on the page then."""
        page.goto(f"{self.url}/settings/second-factor")
        text = page.locator("#totp-secret").inner_text()
        page.locator("#code").fill(code_now(text))
        page.locator("main form button.button:not([data-copy])").click()
        page.locator(".recovery-codes").wait_for()
        return text


def code_now(secret_text: str, *, steps: int = 0) -> str:
    """The code that an app shows for a secret, or will show some steps of half a minute later."""
    secret = base64.b32decode(secret_text.replace(" ", ""))
    return code_at(secret, step_of(datetime.now(UTC)) + steps)


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """Everything, running for all tests of the session."""
    with running() as product:
        yield product


@contextlib.contextmanager
def running() -> Iterator[Installation]:
    """Everything, on free ports and in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="nusagate-browser-", dir="/tmp") as name:
        folder = Path(name)
        ports = [str(free_port()) for _ in PORT_OPTIONS]
        words = [word for pair in zip(PORT_OPTIONS, ports, strict=True) for word in pair]
        process = ChildProcess(
            [sys.executable, "-m", "admin.cli", "dev", "--no-open", "--data", str(folder / "data"), *words],
            output=folder / "output.txt",
            env={"NUSAGATE_SIGN_UPS_PER_NETWORK_DAILY": "10000"},
        )
        try:
            process._poll(lambda: "Ctrl-C stops everything" in process.output, "the greeting", READY_S)
            yield Installation(json.loads((folder / "data" / "dev.json").read_text()))
        finally:
            process.stop(deadline_s=60)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The distribution's Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """A browser of one person whose pages must report no violation, no error and no failed script."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.faults: list[str] = []
        context.add_init_script(WATCH)
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))
        context.on("console", self._heard)

    def page(self) -> Page:
        return self.context.new_page()

    def _heard(self, message) -> None:
        # What the server answers on purpose with 4xx is no fault of the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def check(self) -> None:
        for page in self.context.pages:
            if page.url.startswith("http"):
                self.faults += page.evaluate("window.violations ?? []")
        assert self.faults == []


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    """A new person's browser."""
    context = chromium.new_context(locale="en-GB", timezone_id="Asia/Jakarta", reduced_motion="reduce")
    person = Watched(context)
    yield person
    person.check()
    context.close()


@pytest.fixture
def page(watched: Watched) -> Page:
    """The first page of a new person."""
    return watched.page()


@pytest.fixture(scope="session")
def inside(installation: Installation, chromium: Browser) -> dict:
    """The cookies of somebody with a key, a revoked key, a call that was counted, and a plan that is paid."""
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    installation.sign_up(page, installation.new_address())
    page.get_by_role("button", name="Make my first key").click()
    text = page.locator("#new-key").inner_text()
    answer = context.request.post(
        f"{installation.gateway_url}/v1/responses",
        headers={"authorization": f"Bearer {text}"},
        data={"model": "nusantara-base", "input": "Apa kabar?"},
    )
    assert answer.ok, answer.text()
    for name in ("blog server", "old laptop"):
        page.goto(f"{installation.url}/keys/new")
        page.locator("#name").fill(name)
        page.get_by_role("button", name="Make the key").click()
    page.goto(f"{installation.url}/keys")
    page.get_by_role("link", name="Revoke old laptop").click()
    page.get_by_role("button", name="Revoke the key").click()
    installation.buy(page, "Basic")
    state = context.storage_state()
    context.close()
    return state
