"""The vendored explorer: what it opens has no fault either, the keyboard is enough, and without its script nothing is lost."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.checks import arrive
from tests.browser.test_every_page import LANGUAGES, Look
from tests.browser.test_keyboard import tab_to, walk_stops

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OPERATIONS = 11
CREATE = "#operations-default-post-v1-responses"
WITHOUT = re.compile("The explorer is a script, and it is not running here")


def open_schema(page) -> None:
    """Open an operation, the fields of its body, and those that have parts of every kind."""
    page.locator(f"{CREATE} h3 button").click()
    page.locator(CREATE).get_by_role("tab", name="Schema").first.click()
    for name in ("truncation", "metadata", "input", "Any of"):
        page.locator(CREATE).get_by_role("button", name=name, exact=True).first.click()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_operation_that_is_open_has_no_fault(installation, chromium, language):
    look = Look(chromium, language)
    arrive(look.page, f"{installation.url}/docs/explorer")
    open_schema(look.page)
    look.see("an operation that is open")
    assert look.close() == ""


def test_the_keyboard_alone_opens_an_operation_its_schema_and_a_field(installation, page):
    arrive(page, f"{installation.url}/docs/explorer")
    tab_to(page, "POST/v1/responsesCreate a response")
    page.keyboard.press("Enter")
    tab_to(page, "Schema")
    page.keyboard.press("Enter")
    tab_to(page, "truncation")
    page.keyboard.press("Enter")
    expect(page.locator(CREATE)).to_contain_text('"disabled"')
    page.evaluate("document.activeElement.blur(); getSelection().collapse(document.body, 0); scrollTo(0, 0)")
    assert walk_stops(page) == []


def test_every_operation_is_for_reading_and_leads_to_its_code(installation, page):
    arrive(page, f"{installation.url}/docs/explorer")
    page.locator("#explorer h3 button").evaluate_all("buttons => buttons.forEach((button) => button.click())")
    links = page.get_by_role("link", name="This request as code")
    expect(links).to_have_count(OPERATIONS)
    leads = [link.get_attribute("href").partition("#")[2] for link in links.all()]
    assert page.locator("#explorer").locator("input, textarea, .try-out, .authorize").count() == 0
    page.goto(f"{installation.url}/docs/reference")
    assert leads == page.locator(".operation h2").evaluate_all("headings => headings.map(({ id }) => id)")


def test_an_operation_has_an_address_of_its_own(installation, page):
    arrive(page, f"{installation.url}/docs/explorer")
    page.get_by_role("button", name="GET /v1/usage").click()
    address = page.url
    assert address.endswith("#/default/get-v1-usage")
    page.goto("about:blank")
    arrive(page, address)
    expect(page.locator("#operations-default-get-v1-usage")).to_contain_text("group_by")


def test_sentences_are_in_the_readers_language_and_the_words_around_them_say_that_they_are_not(
    installation, chromium
):
    look = Look(chromium, "id")
    arrive(look.page, f"{installation.url}/docs/explorer")
    look.page.locator(f"{CREATE} h3 button").click()
    summary = look.page.get_by_text("Membuat response")
    assert [summary.evaluate("one => one.closest('[lang]').lang"), look.page.get_by_text("Media type").first.evaluate(
        "one => one.closest('[lang]').lang"
    )] == ["id", "en"]  # fmt: skip
    look.context.close()


def test_without_a_script_the_page_says_where_the_same_is(installation, chromium):
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(f"{installation.url}/docs/explorer")
    expect(page.get_by_text(WITHOUT)).to_be_visible()
    page.get_by_role("link", name="Go to the reference").click()
    expect(page.get_by_role("heading", name="Reference")).to_be_visible()
    context.close()


@pytest.mark.parametrize("lost", ["**/swagger-ui-bundle.js*", "**/explorer.js*", "**/openapi.json*"])
def test_where_a_part_does_not_arrive_the_page_says_the_same(installation, watched, lost):
    page = watched.page()
    page.route(lost, lambda route: route.fulfill(status=503))
    page.goto(f"{installation.url}/docs/explorer")
    expect(page.get_by_text(WITHOUT)).to_be_visible()
