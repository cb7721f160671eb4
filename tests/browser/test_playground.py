"""The playground in a real browser: an answer that grows, a stop that says what it cost, and the same without a script."""

import json
import re
import subprocess

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

SLOW = "[[sim output=400 pace_ms=20]] Apa kabar?"
SETTLED_MS = 40_000


@pytest.fixture(scope="module")
def on_the_free_plan(installation, chromium) -> list:
    """The cookies of somebody whose answers are read to their end when they are stopped."""
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    installation.sign_up(page, installation.new_address())
    page.get_by_role("button", name="Make my first key").click()
    page.locator("#new-key").wait_for()
    cookies = context.cookies()
    context.close()
    return cookies


@pytest.fixture
def played(installation, on_the_free_plan, watched) -> Page:
    """The playground of somebody who is inside."""
    watched.context.add_cookies(on_the_free_plan)
    page = watched.page()
    page.goto(f"{installation.url}/playground")
    return page


def messages(page: Page):
    return page.locator("#turns textarea")


def ask(page: Page, text: str) -> None:
    messages(page).last.fill(text)
    page.keyboard.press("Control+Enter")


def test_an_answer_grows_while_it_is_written_and_is_then_told_by_the_ledger(played):
    ask(played, "[[sim output=60 pace_ms=50]] Apa kabar?")
    answer = messages(played).nth(1)
    expect(answer).not_to_have_value("")
    expect(played.get_by_role("button", name="Stop")).to_be_visible()
    partly = answer.input_value()
    expect(played.locator("#receipt")).to_contain_text(re.compile(r"\+ 60\s*Worth\s*Rp 0\.\d+", re.DOTALL))
    expect(played.get_by_role("button", name="Stop")).to_be_hidden()
    whole = answer.input_value()
    assert 0 < len(partly) < len(whole)
    assert whole.startswith(partly)
    expect(messages(played).nth(2)).to_be_focused()
    expect(played.locator("#month")).to_contain_text("of 10,000 tokens of this month used")


def test_an_answer_that_is_stopped_says_what_it_cost(played):
    ask(played, SLOW)
    expect(messages(played).nth(1)).not_to_have_value("")
    played.get_by_role("button", name="Stop").click()
    stopped = messages(played).nth(1).input_value()
    expect(played.locator("#receipt")).to_contain_text("stopped by you, read to its end", timeout=SETTLED_MS)
    expect(played.locator("#receipt")).to_contain_text("+ 400")
    assert messages(played).nth(1).input_value() == stopped


def test_a_refusal_is_told_in_words_with_its_body(played):
    played.locator("#max_output_tokens").fill("512")
    ask(played, "x" * 30_000)
    refusal = played.locator(".refusal")
    expect(refusal).to_be_visible()
    expect(refusal).to_contain_text(re.compile(r"\d{3} \w+"))
    refusal.get_by_text("The body as it came").click()
    body = json.loads(refusal.locator("pre").inner_text())
    assert body["error"]["code"] in refusal.locator("strong").inner_text()
    expect(messages(played).last).to_have_value("x" * 30_000)


def test_more_text_than_a_form_may_have_is_told_as_that(played):
    ask(played, "x" * 70_000)
    expect(played.locator("#problem")).to_contain_text("That is more text than fits into one form.")
    expect(messages(played).last).to_have_value("x" * 70_000)


def test_the_code_follows_what_is_typed_and_sends_exactly_that(installation, played):
    messages(played).last.fill('It\'s a "test"')
    played.locator("#temperature").fill("0.2")
    played.locator("#max_output_tokens").fill("33")
    played.get_by_label("Stream the answer").uncheck()
    code = played.locator("#code pre").first
    expect(code).to_contain_text('"max_output_tokens": 33')
    expect(code).to_contain_text('"stream": false')
    played.goto(f"{installation.url}/start")
    played.get_by_role("button", name="Make another key").click()
    key = played.locator("#new-key").inner_text()
    played.goto(f"{installation.url}/playground")
    messages(played).last.fill('It\'s a "test"')
    played.locator("#temperature").fill("0.2")
    expect(played.locator("#code pre").first).to_contain_text('"temperature": 0.2')
    pasted = subprocess.run(
        ["bash", "-c", played.locator("#code pre").first.inner_text()],
        env={"NUSAGATE_API_KEY": key, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "response.completed" in pasted.stdout
    assert '"temperature":0.2' in pasted.stdout


def test_the_keyboard_alone_is_enough(played):
    expect(messages(played).last).to_be_focused()
    played.keyboard.type("[[sim output=300 pace_ms=30]] Apa kabar?")
    played.keyboard.press("Tab")
    expect(played.get_by_role("button", name="Send")).to_be_focused()
    played.keyboard.press("Enter")
    expect(played.get_by_role("button", name="Stop")).to_be_focused()
    expect(messages(played).nth(1)).not_to_have_value("")
    played.keyboard.press("Enter")
    expect(played.get_by_role("button", name="Stop")).to_be_hidden()
    expect(played.locator("#receipt")).to_contain_text("From the ledger.", timeout=SETTLED_MS)


def test_the_same_without_a_script(installation, chromium, inside):
    context = chromium.new_context(storage_state=inside, java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(f"{installation.url}/playground")
    messages(page).last.fill("[[sim output=7]] Apa kabar?")
    page.get_by_role("button", name="Send").click()
    expect(messages(page)).to_have_count(3)
    expect(messages(page).nth(1)).not_to_have_value("")
    expect(page.locator("#receipt")).to_contain_text("+ 7")
    page.get_by_role("button", name="Add a message").click()
    expect(messages(page)).to_have_count(4)
    context.close()


def test_a_section_of_the_documentation_is_reached_from_the_side(installation, page):
    page.goto(f"{installation.url}/docs/errors")
    page.get_by_role("link", name="Two kinds of 429").click()
    expect(page.get_by_role("heading", name="Two kinds of 429")).to_be_in_viewport()
    page.get_by_role("link", name="This page as Markdown").click()
    expect(page.locator("body")).to_contain_text("| `insufficient_quota` | 429 |")
