"""A stranger gets from the front page to a first metered call, by clicking what is there and pasting what is shown."""

import re
import subprocess

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

CALL_S = 30


def test_from_the_front_page_to_the_first_metered_call(installation, page):
    address = installation.new_address()
    page.goto(installation.url)
    page.get_by_role("link", name="Get a free key").click()
    page.get_by_label("E-mail").fill(address)
    page.get_by_label("Password").fill("kopi susu hangat sore")
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    page.get_by_role("link", name="Read your mail").click()
    page.locator(".letter", has_text=address).locator("a").click()
    page.get_by_role("button", name="Make my first key").click()
    expect(page.get_by_text("Listening for your first call…")).to_be_visible()
    shown = page.locator(".panel pre").first.inner_text()
    assert page.locator("#new-key").inner_text() in shown
    pasted = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, timeout=CALL_S, check=True)
    assert '"status":"completed"' in pasted.stdout
    expect(page.get_by_text("Your first call has arrived.")).to_be_visible(timeout=CALL_S * 1000)
    expect(page.locator(".listening-done")).to_contain_text(re.compile(r"Tokens\s*\d+.*Rp 0\.\d+", re.DOTALL))
    page.get_by_role("link", name="See your usage").click()
    expect(page.get_by_text("of 10,000 tokens")).to_be_visible()


def test_the_same_without_a_script(installation, chromium):
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    installation.sign_up(page, installation.new_address())
    page.get_by_role("button", name="Make my first key").click()
    shown = page.locator(".panel pre").first.inner_text()
    subprocess.run(["bash", "-c", shown], capture_output=True, timeout=CALL_S, check=True)
    page.get_by_role("link", name="Look whether it has arrived").click()
    expect(page.get_by_text("Your first call has arrived.")).to_be_visible()
    page.get_by_text("Python", exact=True).click()
    expect(page.get_by_text("from openai import OpenAI")).to_be_visible()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    context.close()


def test_the_copy_button_copies_the_request_that_is_shown(installation, watched):
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = watched.page()
    page.goto(installation.url)
    page.get_by_text("Python", exact=True).click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "from openai import OpenAI" in page.evaluate("navigator.clipboard.readText()")


def test_moments_are_shown_in_the_zone_of_the_reader(installation, chromium, inside):
    context = chromium.new_context(storage_state=inside, locale="en-GB", timezone_id="Asia/Jakarta")
    page = context.new_page()
    page.goto(f"{installation.url}/usage")
    moment = page.locator("table time").last
    expect(moment).to_contain_text("GMT+7")
    assert moment.get_attribute("title").endswith(" UTC")
    context.close()
