"""Every page in both languages and both themes: no accessibility fault, no policy violation, no jump, no sideways scroll.

The pages are taken from the application, so that a new one is walked as soon as it exists.
"""

import hashlib
import json

import pytest

from admin.app import AdminApp
from admin.portal.docs.library import WRITTEN
from admin.web.admission import Access
from tests.browser.checks import HEIGHT, PHONE, VENDOR, accessibility_faults, arrive, faults, width_faults
from tests.browser.conftest import Watched
from tests.plugins.portal import portal_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
"""A walk looks at dozens of pages; on a busy machine it takes minutes, on a quiet one half of one."""

LANGUAGES = ("id", "en")
THEMES = ("light", "dark")
NO_PAGES = frozenset(
    {
        *("/usage.csv", "/start/call", "/billing/statement.csv", "/billing/paid", "/billing/paid/state"),
        *("/playground/receipt/{request_id:uuid}", *(entry.markdown_path for entry in WRITTEN)),
    }
)
"""Downloads, parts of pages, and the way back from a payment; the walk of paying sees that."""

BEHIND_A_STEP = frozenset({"/verify", "/reset/new", "/login/code", "/signup/sent"})
"""Pages that need a link of a mail or a step before; ``doors`` leads to them."""


def pages(access: set[Access]) -> list[str]:
    framework = AdminApp(portal_settings(), lambda: None).framework
    return sorted(
        route.path
        for route in framework.routes
        for handler in route.route_handlers
        if "GET" in handler.http_methods
        and handler.opt.get("access") in access
        and route.path not in NO_PAGES | BEHIND_A_STEP
    )


PUBLIC = [*pages({Access.ANYBODY}), "/nothing"]
INSIDE = pages({Access.PERSON, Access.CONFIRMED})


@pytest.fixture(scope="session")
def doors(installation, chromium) -> dict[str, tuple[dict | None, str]]:
    """What is behind a step: the cookies that it takes, and the address that can be opened again and again."""
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    waiting, owner = installation.new_address(), installation.new_address()
    installation.ask_to_sign_up(page, waiting)
    found: dict[str, tuple[dict | None, str]] = {
        "/signup/sent": (context.storage_state(), f"{installation.url}/signup/sent"),
        "/verify": (None, installation.link_to(page, waiting)),
    }
    installation.sign_up(page, owner)
    installation.turn_second_factor_on(page)
    page.goto(f"{installation.url}/settings")
    for path in (
        "/billing",
        "/billing/plans",
        "/billing/cap",
        "/billing/credit",
        "/usage",
        "/keys",
        "/limits",
    ):
        found[f"{path} of somebody new"] = (context.storage_state(), installation.url + path)
    found["the second factor is on"] = (context.storage_state(), f"{installation.url}/settings")
    found["/settings/second-factor/off"] = (
        context.storage_state(),
        f"{installation.url}/settings/second-factor/off",
    )
    context.clear_cookies()
    page.goto(f"{installation.url}/reset")
    page.locator("#email").fill(owner)
    page.locator("main form button").click()
    found["/reset/new"] = (None, installation.link_to(page, owner))
    found["a link that is over"] = (None, f"{installation.url}/verify?token=guessed")
    installation.log_in(page, owner)
    page.wait_for_url("**/login/code*")
    found["/login/code"] = (context.storage_state(), page.url)
    context.close()
    return found


FOUND = {
    "{key_id:uuid}": ("/keys", 'a[href*="/rotate"]', 2),
    "{label:str}": ("/usage/requests", 'a[href*="/req_"]', 3),
    "{plan_id:str}": ("/billing/plans", 'a[href^="/billing/plans/"]', 3),
    "{invoice_id:str}": ("/billing", 'a[href^="/billing/invoices/"]', 3),
}
"""Where a value of the account is found: the page, the first link that has it, and which part of that."""


def filled(page, url: str, path: str) -> str:
    """The path with what belongs to the account in it."""
    for name, (place, link, part) in FOUND.items():
        if name in path:
            page.goto(url + place)
            href = page.locator(link).first.get_attribute("href")
            path = path.replace(name, href.split("/")[part])
    assert "{" not in path
    return path


class Look:
    """One reader: their language, both themes, and what is wrong with what they see."""

    def __init__(self, chromium, language: str, state: dict | None = None) -> None:
        self.language = language
        self.found: dict[str, list[str]] = {}
        self.context = chromium.new_context(
            storage_state=state, extra_http_headers={"accept-language": language}, reduced_motion="reduce"
        )
        self._watched = Watched(self.context)
        self.page = self._watched.page()

    def speak(self, url: str) -> None:
        """Choose the language, for somebody whose account has one already."""
        self.page.goto(f"{url}/limits")
        self.page.locator(f'footer button[name="language"][value="{self.language}"]').click()
        self.page.wait_for_selector(f'html[lang="{self.language}"]')

    def open(self, name: str, url: str) -> None:
        arrive(self.page, url)
        self.see(name)

    def see(self, name: str) -> None:
        """Look at the page as it stands, in both themes."""
        assert self.page.locator("html").get_attribute("lang") == self.language, name
        wrong = [*faults(self.page), *width_faults(self.page)]
        wrong += self._watched.faults
        self._watched.faults.clear()
        if wrong:
            self.found[name] = wrong

    def close(self) -> str:
        """What was wrong, a line for each fault."""
        self.context.close()
        return "\n".join(f"{name}: {fault}" for name, wrong in self.found.items() for fault in wrong)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_that_everybody_sees_has_a_fault(installation, chromium, language):
    look = Look(chromium, language)
    for path in PUBLIC:
        look.open(path, installation.url + path)
    look.page.goto(f"{installation.url}/dev/components")
    look.page.locator('button[popovertarget="a-dialog"]').first.click()
    look.see("an open dialog")
    assert look.close() == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_of_the_inside_has_a_fault(installation, chromium, inside, language):
    look = Look(chromium, language, inside)
    look.speak(installation.url)
    for path in INSIDE:
        look.open(path, installation.url + filled(look.page, installation.url, path))
    assert look.close() == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_behind_a_step_has_a_fault(installation, chromium, doors, language):
    assert set(doors) >= BEHIND_A_STEP
    found = []
    for name, (state, url) in doors.items():
        look = Look(chromium, language, state)
        if state is not None and "/login/code" not in url and "/signup" not in url:
            look.speak(installation.url)
        look.open(name, url)
        found.append(look.close())
    assert "".join(found) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_answer_to_a_form_has_a_fault(installation, chromium, language):
    look, url = Look(chromium, language), installation.url
    page = look.page

    def send(path: str, **fields: str) -> None:
        page.goto(url + path)
        for name, value in fields.items():
            page.locator(f"#{name}").fill(value)
        page.locator("main form button.button:not([data-copy])").last.click()

    send("/login", email="nobody@example.com", password="not a password")
    look.see("a login that is refused")
    send("/signup", email=installation.new_address(), password="passwordpassword")
    look.see("a password that is refused")
    address = installation.new_address()
    installation.ask_to_sign_up(page, address)
    look.see("a mail on its way")
    page.goto(installation.link_to(page, address))
    look.see("the beginning")
    page.locator("main form button").first.click()
    page.locator("#new-key").wait_for()
    look.see("the first key")
    send("/keys/new", name="x", monthly_tokens="many")
    look.see("a key that is refused")
    send("/keys/new", name="blog server")
    page.locator("#new-key").wait_for()
    look.see("a key")
    send(filled(page, url, "/keys/{key_id:uuid}/rotate"))
    page.locator("#new-key").wait_for()
    look.see("a key that was rotated")
    send("/confirm", password="not my password")
    look.see("a proof that is refused")
    send("/settings/close", email="nobody@example.com")
    look.see("an account that is not closed")
    installation.turn_second_factor_on(page)
    look.see("recovery codes")
    send("/settings/second-factor/off", password="not my password")
    look.see("a second factor that stays on")
    page.goto(f"{url}/settings")
    page.locator('form[action="/logout"] button').click()
    page.wait_for_url("**/login")
    look.see("goodbye")
    installation.log_in(page, address)
    page.locator("#code").fill("000000")
    page.locator("main form button").click()
    look.see("a code that is refused")
    assert look.close() == ""


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_that_was_chosen_looks_like_the_same_theme_of_the_system(installation, chromium, theme):
    colours = """
        [...document.querySelectorAll("body, body *")].map((element) => {
          const style = getComputedStyle(element);
          return [style.color, style.backgroundColor, style.borderTopColor, style.fill].join(" ");
        }).join("\\n")
    """
    found = []
    for system, chosen in ((theme, None), ("dark" if theme == "light" else "light", theme)):
        context = chromium.new_context(color_scheme=system)
        if chosen is not None:
            context.add_cookies([{"name": "nusagate_theme", "value": chosen, "url": installation.url}])
        page = context.new_page()
        page.goto(f"{installation.url}/dev/components")
        # The choice itself shows what was chosen.
        page.evaluate("document.querySelector('footer').remove()")
        found.append(page.evaluate(colours))
        context.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("path", ["/usage", "/settings", "/docs", "/docs/status"])
def test_on_a_phone_the_navigation_is_one_line_that_shows_where_one_is(installation, chromium, inside, path):
    context = chromium.new_context(storage_state=inside, viewport={"width": PHONE, "height": HEIGHT})
    page = context.new_page()
    page.goto(installation.url + path)
    boxes = [link.bounding_box() for link in page.locator(".strip a").all()]
    assert len(boxes) > 5
    assert len({box["y"] for box in boxes}) == 1
    here = page.locator('.strip a[aria-current="page"]').bounding_box()
    assert 0 <= here["x"] <= here["x"] + here["width"] <= PHONE
    context.close()


def test_a_statement_prints_on_white_paper_without_the_navigation(installation, chromium, inside):
    context = chromium.new_context(storage_state=inside, color_scheme="dark", reduced_motion="reduce")
    page = context.new_page()
    page.set_viewport_size({"width": 794, "height": 1123})
    page.goto(f"{installation.url}/billing/statement")
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (".side", "footer", ".skip"):
        assert page.locator(hidden).first.is_hidden(), hidden
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") in {
        "rgb(0, 0, 0)", "rgb(28, 26, 23)",
    }  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


def test_the_pages_are_those_of_the_application():
    assert {"/", "/login", "/signup", "/dev/components"} <= set(PUBLIC)
    assert {
        "/start",
        "/usage",
        "/usage/requests",
        "/keys",
        "/keys/new",
        "/limits",
        "/billing",
        "/billing/plans",
        "/settings",
    } <= set(INSIDE)


# ---------------------------------------------------------------- the checks see what they are for


def test_the_checker_sees_a_fault(installation, page):
    page.goto(f"{installation.url}/login")
    page.evaluate("document.querySelector('label').remove()")
    assert [fault.partition(":")[0] for fault in accessibility_faults(page)] == ["label"]


def test_the_checker_sees_a_page_that_is_not_there(installation, page):
    with pytest.raises(AssertionError, match="answers 404"):
        arrive(page, f"{installation.url}/usage/nowhere")


def test_the_checker_sees_a_form_without_its_token(installation, page):
    page.goto(f"{installation.url}/login")
    page.evaluate("document.querySelector('main input[name=csrf]').remove()")
    assert faults(page) == [f"form without its token: {installation.url}/login"]


def test_the_checker_sees_what_moves(installation, page):
    page.goto(f"{installation.url}/login")
    assert faults(page) == []
    page.evaluate("document.querySelector('h1').before(document.createElement('pre'))")
    page.evaluate("document.querySelector('pre').style.height = '200px'")
    assert [fault.partition(" by ")[0] for fault in faults(page)] == ["moved"]


def test_the_checker_sees_what_is_too_wide(installation, page):
    page.goto(f"{installation.url}/login")
    assert width_faults(page) == []
    page.evaluate("document.querySelector('h1').style.width = '500px'")
    (fault,) = width_faults(page)
    assert fault.startswith("516 wide at 320: <h1")


def test_the_watch_sees_a_violation(installation, watched):
    page = watched.page()
    page.goto(f"{installation.url}/login")
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.wait_for_function("window.violations.length > 0")
    with pytest.raises(AssertionError, match="style-src"):
        watched.check()
    watched.faults.clear()
    page.close()


def test_the_checker_is_the_file_of_its_manifest():
    (entry,) = json.loads((VENDOR / "manifest.json").read_text())
    assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert (VENDOR / entry["licence_file"]).exists()
