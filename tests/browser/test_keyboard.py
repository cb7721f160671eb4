"""Everything can be done with the keyboard alone, in the order in which it is read, and without a script."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.checks import arrive
from tests.browser.conftest import PASSWORD
from tests.browser.test_every_page import INSIDE, PUBLIC, filled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOPS_MAX = 300
FOCUSED = """
document.activeElement.getAttribute("aria-label") || document.activeElement.textContent.trim()
  || document.activeElement.id || document.activeElement.title
"""
STOP = """
(() => {
  const here = document.activeElement, before = window.lastStop;
  // A date has several stops in it, which the browser draws itself.
  const inside = before === here && here.type === "date";
  window.firstStop ??= here;
  if (here === document.body || (before && here === window.firstStop)) return { over: true };
  window.lastStop = here;
  const box = here.getBoundingClientRect(), style = getComputedStyle(here);
  // A radio button of tabs is not seen itself: its label shows the focus.
  const shown = here.type === "radio" && here.id
    ? getComputedStyle(document.querySelector(`label[for="${here.id}"]`) ?? here) : style;
  return {
    name: here.outerHTML.slice(0, 120),
    again: before === here && !inside,
    backwards: before !== undefined && before !== here && !(before.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING),
    seen: inside || shown.outlineStyle !== "none" && parseFloat(shown.outlineWidth) >= 2 && box.width > 0 && box.height > 0
      && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
})()
"""


def tabs(page, count: int) -> list[str]:
    """What has the focus after each press of Tab."""
    found = []
    for _ in range(count):
        page.keyboard.press("Tab")
        found.append(page.evaluate(FOCUSED))
    return found


def tab_to(page, name: str) -> None:
    """Press Tab until something of this name has the focus."""
    for _ in range(STOPS_MAX):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == name:
            return
    pytest.fail(f"{name} is not reached on {page.url}")


def press(page, name: str) -> None:
    """Go to something that leads to another page, and press Enter on it."""
    tab_to(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def walk_stops(page) -> list[str]:
    """Press Tab through the whole page; return the stops that are not seen, or come out of order."""
    wrong = []
    for _ in range(STOPS_MAX):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop.get("over"):
            return wrong
        if stop["again"]:
            wrong.append(f"no way on: {stop['name']}")
            return wrong
        if not stop["seen"]:
            wrong.append(f"not seen: {stop['name']}")
        if stop["backwards"]:
            wrong.append(f"out of order: {stop['name']}")
    return [*wrong, "no end"]


def test_every_stop_of_every_page_is_seen_and_comes_in_the_order_of_reading(installation, chromium, inside):
    context = chromium.new_context(storage_state=inside, reduced_motion="reduce")
    page = context.new_page()
    wrong = []
    for path in [*PUBLIC, *INSIDE]:
        arrive(page, installation.url + filled(page, installation.url, path))
        # A page may put the focus where something has to be typed; the walk begins at the top.
        page.evaluate("document.activeElement.blur(); getSelection().collapse(document.body, 0)")
        wrong += [f"{path}: {fault}" for fault in walk_stops(page)]
    assert "\n".join(wrong) == ""
    context.close()


def test_the_walk_sees_a_stop_that_is_not_seen(installation, page):
    page.goto(f"{installation.url}/login")
    page.evaluate("document.querySelector('#email').style.outline = 'none'")
    page.evaluate("document.querySelector('#password').tabIndex = 1")
    assert [fault.partition(":")[0] for fault in walk_stops(page)] == ["out of order", "not seen"]


def test_the_first_stop_skips_to_the_content(installation, page):
    page.goto(f"{installation.url}/login")
    assert tabs(page, 1) == ["Skip to the content"]
    page.keyboard.press("Enter")
    assert tabs(page, 1) == ["email"]


def test_from_the_front_page_to_a_revoked_key_without_a_mouse(installation, page):
    address = installation.new_address()
    page.goto(installation.url)
    press(page, "Get a free key")
    page.wait_for_url("**/signup")
    assert tabs(page, 4) == ["Skip to the content", "Nusagate", "email", "password"]
    page.locator("#email").press_sequentially(address)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    page.goto(installation.link_to(page, address))
    press(page, "Make my first key")
    page.locator("#new-key").wait_for()
    press(page, "Keys")
    page.wait_for_url("**/keys")
    press(page, "New key")
    tab_to(page, "name")
    page.keyboard.type("blog server")
    tab_to(page, "monthly_tokens")
    page.keyboard.type("2,000")
    press(page, "Make the key")
    page.locator("#new-key").wait_for()
    page.goto(f"{installation.url}/keys")
    press(page, "Rotate blog server")
    press(page, "Rotate the key")
    page.locator("#new-key").wait_for()
    page.goto(f"{installation.url}/keys")
    press(page, "Revoke first key")
    press(page, "Revoke the key")
    expect(page.get_by_text("The key is revoked.")).to_be_visible()
    press(page, "Log out")
    expect(page.get_by_text("You are logged out.")).to_be_visible()


def test_the_tabs_of_a_request_are_switched_with_the_arrows(installation, page):
    page.goto(installation.url)
    page.locator(".tabs input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("from openai import OpenAI")).to_be_visible()
    assert (
        page.locator(".tab-labels label").nth(1).evaluate("label => getComputedStyle(label).outlineStyle")
        == "solid"
    )


def test_a_dialog_opens_and_closes_and_gives_the_focus_back(installation, page):
    page.goto(f"{installation.url}/dev/components")
    page.get_by_role("button", name="Open the dialog").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Are you sure?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Are you sure?")).to_be_hidden()
    assert page.evaluate(FOCUSED) == "Open the dialog"


def test_what_is_wrong_has_the_focus_and_is_read_with_its_field(installation, page):
    page.goto(f"{installation.url}/signup")
    page.locator("#email").fill(installation.new_address())
    page.locator("#password").fill("passwordpassword")
    page.locator("main form button").click()
    expect(page.locator("#password")).to_be_focused()
    expect(page.locator("#password")).to_have_attribute("aria-describedby", "password-wrong password-help")
    expect(page.locator("#password-wrong")).to_have_text(
        re.compile("This password is easy to guess. Choose another one.")
    )
