"""Everything can be done with the keyboard alone, in the order in which it is read."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

FOCUSED = (
    "document.activeElement.textContent.trim() || document.activeElement.id || document.activeElement.title"
)


def tabs(page, count: int) -> list[str]:
    """What has the focus after each press of Tab."""
    found = []
    for _ in range(count):
        page.keyboard.press("Tab")
        found.append(page.evaluate(FOCUSED))
    return found


def test_the_first_stop_skips_to_the_content(installation, page):
    page.goto(f"{installation.url}/login")
    assert tabs(page, 1) == ["Skip to the content"]
    page.keyboard.press("Enter")
    assert tabs(page, 1) == ["email"]


def test_the_form_is_filled_and_sent_without_a_mouse(installation, page):
    page.goto(f"{installation.url}/signup")
    assert tabs(page, 4) == ["Skip to the content", "Nusagate", "email", "password"]
    page.locator("#email").press_sequentially(installation.new_address())
    page.keyboard.press("Tab")
    page.keyboard.type("kopi susu hangat sore")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()


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
        "This password is easy to guess. Choose another one."
    )


def test_every_stop_is_visible(installation, page):
    page.goto(f"{installation.url}/signup")
    page.keyboard.press("Tab")
    for _ in range(10):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate(FOCUSED)
