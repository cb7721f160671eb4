"""Every page in both languages and both themes: no accessibility fault, no policy violation, nothing wider than a phone.

The pages are taken from the application, so that a new one is walked as soon as it exists.
"""

import hashlib
import json
from pathlib import Path

import pytest

from admin.app import AdminApp
from admin.portal.docs.library import WRITTEN
from admin.web.admission import Access
from tests.browser.conftest import Watched
from tests.plugins.portal import portal_settings

pytestmark = pytest.mark.slow

VENDOR = Path(__file__).parent / "vendor"
AXE = (VENDOR / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = f"axe.run(document, {{runOnly: {json.dumps(RULES)}}})"
NO_PAGES = frozenset(
    {
        *("/usage.csv", "/start/call", "/verify", "/reset/new", "/login/code", "/signup/sent"),
        *("/billing/statement.csv", "/billing/paid", "/billing/paid/state"),
        *("/playground/receipt/{request_id:uuid}", *(entry.markdown_path for entry in WRITTEN)),
    }
)
"""No pages, or pages that need a link of a mail or a payment; the walks of sign-up and of paying see those."""


def pages(access: set[Access]) -> list[str]:
    framework = AdminApp(portal_settings(), lambda: None).framework
    return sorted(
        route.path
        for route in framework.routes
        for handler in route.route_handlers
        if "GET" in handler.http_methods
        and handler.opt.get("access") in access
        and route.path not in NO_PAGES
    )


PUBLIC = [*pages({Access.ANYBODY}), "/nothing"]
INSIDE = pages({Access.PERSON, Access.CONFIRMED})


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


def faults(page) -> list[str]:
    """What axe finds, as one line for each fault."""
    page.evaluate(AXE)
    return [
        f"{fault['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
        for fault in page.evaluate(RUN)["violations"]
        for node in fault["nodes"]
    ]


def walk(context, installation, paths) -> dict[str, list[str]]:
    """Visit pages, and return what is wrong with each."""
    watched = Watched(context)
    page = watched.page()
    found = {}
    for path in paths:
        page.goto(installation.url + filled(page, installation.url, path))
        found[path] = [*faults(page), *page.evaluate("window.violations"), *watched.faults]
        watched.faults.clear()
    return {path: wrong for path, wrong in found.items() if wrong}


@pytest.mark.parametrize("look", [("id", "light"), ("id", "dark"), ("en", "light"), ("en", "dark")])
@pytest.mark.parametrize("who", ["stranger", "somebody inside"])
def test_no_page_has_a_fault(installation, chromium, inside, who, look):
    language, theme = look
    context = chromium.new_context(
        storage_state=inside if who == "somebody inside" else None,
        color_scheme=theme,
        extra_http_headers={"accept-language": language},
        reduced_motion="reduce",
    )
    if who == "somebody inside":
        page = context.new_page()
        page.goto(f"{installation.url}/limits")
        page.locator(f'footer button[name="language"][value="{language}"]').click()
        assert page.locator("html").get_attribute("lang") == language
        page.close()
    assert walk(context, installation, INSIDE if who == "somebody inside" else PUBLIC) == {}
    context.close()


@pytest.mark.parametrize("width", [320, 640])
def test_nothing_is_wider_than_a_phone_or_a_page_at_twice_its_size(installation, chromium, inside, width):
    context = chromium.new_context(storage_state=inside, viewport={"width": width, "height": 640})
    page = context.new_page()
    wide = {}
    for path in [*PUBLIC, *INSIDE]:
        page.goto(installation.url + filled(page, installation.url, path))
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            wide[path] = needed
    assert wide == {}
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


def test_the_checker_sees_a_fault(installation, page):
    page.goto(f"{installation.url}/login")
    page.evaluate("document.querySelector('label').remove()")
    assert [fault.partition(":")[0] for fault in faults(page)] == ["label"]


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
