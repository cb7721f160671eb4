"""The portal in the test's own process, and people who use it with a browser that keeps cookies and reads forms."""

import base64
import re
from html import unescape
from urllib.parse import urlsplit

import httpx2
import pytest

from admin.access.totp import code_at, step_of
from admin.app import AdminApp, join_parts
from admin.settings import PortalSettings, load_portal_settings
from admin.web.parts import Parts, Till
from billing.settings import StripeSettings
from gateway.db.pool import Pool
from tests.plugins.cast import PEPPERS, MovableClock

ORIGIN = "http://127.0.0.1:8081"
PASSWORD = "kopi susu hangat sore"
LINK = re.compile(r"^http://127\.0\.0\.1:8081(/\S+)$", re.MULTILINE)
TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
ENVIRONMENT = {
    "NUSAGATE_DATABASE_URL": "postgresql://unused",
    "NUSAGATE_KEY_PEPPER": f"v1:{PEPPERS[1].decode()}",
    "NUSAGATE_SESSION_SECRET": "v1:the session secret of the tests",
    "NUSAGATE_SMTP_URL": "page:",
}


def portal_settings(**environ: str) -> PortalSettings:
    """The settings of the tests, changed by variables."""
    return load_portal_settings(ENVIRONMENT | environ)


class Portal:
    """The application and its parts; the clock is the test's."""

    def __init__(
        self,
        db: Pool,
        clock: MovableClock,
        settings: PortalSettings,
        *,
        stripe: StripeSettings | None = None,
        till: Till | None = None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.settings = settings
        self.parts: Parts = join_parts(settings, clock, db, till)
        self.app = AdminApp(settings, lambda: None, stripe)
        self.app.framework.state["parts"] = self.parts

    def browser(self, *, network: str = "192.0.2.1", **headers: str) -> "Browser":
        """A browser that nobody has used yet."""
        return Browser(self, network, headers)

    async def letters(self, address: str) -> list[str]:
        """What was written to somebody, the latest first."""
        rows = await self.db.fetch(
            "SELECT subject, body FROM mail_outbox WHERE address = $1 ORDER BY created_at DESC, mail_id DESC",
            address,
        )
        return [f"{row['subject']}\n\n{row['body']}" for row in rows]

    async def link(self, address: str) -> str:
        """The first link of the latest letter to somebody."""
        match = LINK.search((await self.letters(address))[0])
        assert match is not None
        return match[1]


class Browser:
    """Keeps cookies, follows redirects, and sends forms from their own page."""

    def __init__(self, portal: Portal, network: str, headers: dict[str, str]) -> None:
        self.portal = portal
        transport = httpx2.ASGITransport(app=portal.app, client=(network, 4711))
        self.client = httpx2.AsyncClient(
            transport=transport,
            base_url=ORIGIN,
            headers={"accept-language": "en", **headers},
            follow_redirects=True,
        )

    async def get(self, path: str, **options):
        return await self.client.get(path, **options)

    async def token(self, page: str = "/reset") -> str:
        """The form token of this browser, read from a page."""
        match = TOKEN.search((await self.get(page)).text)
        assert match is not None
        return match[1]

    async def post(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        csrf: str | None = None,
        fields: dict[str, object] | None = None,
        follow: bool = True,
        **more: object,
    ):
        """Send a form as a browser does from a page of the same origin."""
        sent = {"csrf": await self.token() if csrf is None else csrf, **(fields or {}), **more}
        own = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        return await self.client.post(path, data=sent, headers=own | (headers or {}), follow_redirects=follow)

    async def join(self, email: str, password: str = PASSWORD) -> "Browser":
        """Sign up, follow the link, and be inside."""
        answer = await self.post("/signup", email=email, password=password)
        assert urlsplit(str(answer.url)).path == "/signup/sent", answer.text
        answer = await self.get(await self.portal.link(email))
        assert urlsplit(str(answer.url)).path == "/start", answer.text
        return self

    async def login(self, email: str, password: str = PASSWORD):
        return await self.post("/login", email=email, password=password)


def path_of(answer) -> str:
    """Where a browser is after an answer."""
    return urlsplit(str(answer.url)).path


def text_of(answer) -> str:
    """What somebody reads on a page, its marks removed."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def token_of(browser: Browser) -> str:
    """The session's token as the browser keeps it."""
    return browser.client.cookies["nusagate_session"]


async def second_factor(portal: Portal, browser: Browser) -> tuple[bytes, list[str]]:
    """Switch the second factor on, and return the app's secret and the recovery codes."""
    page = await browser.get("/settings/second-factor")
    text = page.text.partition('id="totp-secret">')[2].partition("<")[0]
    secret = base64.b32decode(text.replace(" ", ""))
    answer = await browser.post("/settings/second-factor", code=code_at(secret, step_of(portal.clock.now())))
    assert "recovery codes" in text_of(answer), text_of(answer)
    codes = answer.text.partition('id="codes">')[2].partition("</ul>")[0]
    return secret, [item.partition("</li>")[0] for item in codes.split("<li>")[1:]]


@pytest.fixture
async def portal(seeded: Pool, clock: MovableClock) -> Portal:
    """The portal on an empty database with plans and prices."""
    return Portal(seeded, clock, portal_settings())
