"""Somebody buys a plan by clicking what is there, with a script and without, and lets a payment fail."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_every_page import faults

pytestmark = pytest.mark.slow

PAID_S = 60


def test_a_plan_is_bought_changed_cancelled_and_kept(installation, page):
    installation.sign_up(page, installation.new_address())
    installation.buy(page, "Basic")
    assert faults(page) == []
    page.get_by_role("link", name="Go to billing").click()
    expect(page.locator(".plan-head .figure")).to_have_text("Basic")
    page.get_by_role("link", name="Compare plans").click()
    page.get_by_role("link", name="Choose Standard").click()
    page.get_by_role("button", name="and change").click()
    expect(page.get_by_text("Your plan is changed.")).to_be_visible()
    expect(page.locator(".plan-head .figure")).to_have_text("Standard")
    page.get_by_role("link", name="Cancel the plan").click()
    page.get_by_role("button", name="Cancel the plan").click()
    expect(page.get_by_text("then Free follows")).to_be_visible()
    page.get_by_role("button", name="Take it back, keep the plan").click()
    expect(page.get_by_text("Your plan stays.")).to_be_visible()
    page.get_by_role("button", name="Card and invoices at Stripe").click()
    expect(page.get_by_role("heading", name="Billing portal")).to_be_visible()
    page.get_by_role("link", name="Back").click()
    page.locator('a[href^="/billing/invoices/"]').first.click()
    page.get_by_role("link", name="Open it at Stripe").click()
    expect(page.get_by_role("heading", name="Invoice")).to_be_visible()


def test_the_same_without_a_script(installation, chromium):
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    installation.sign_up(page, installation.new_address())
    page.goto(f"{installation.url}/billing/plans/basic")
    page.get_by_role("button", name="Go on to payment at Stripe").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    page.wait_for_url("**/billing/paid?session=*")
    there = page.get_by_role("heading", name="Your plan is Basic now.")
    waiting = page.get_by_role("link", name="Look whether it has arrived")
    for _ in range(PAID_S):
        expect(there.or_(waiting)).to_be_visible()
        if there.is_visible():
            break
        waiting.click()
    expect(there).to_be_visible()
    context.close()


def test_a_card_that_fails_and_a_page_that_is_left_buy_nothing(installation, page):
    installation.sign_up(page, installation.new_address())
    page.goto(f"{installation.url}/billing/plans/basic")
    page.get_by_role("button", name="Go on to payment at Stripe").click()
    page.get_by_label("Card").select_option("0002")
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Nothing was paid")).to_be_visible()
    assert faults(page) == []


def test_credit_is_paid_in(installation, page):
    installation.sign_up(page, installation.new_address())
    page.goto(f"{installation.url}/billing/credit")
    page.get_by_label("Rp 100,000").check()
    page.get_by_role("button", name="Go on to payment at Stripe").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.get_by_role("heading", name="Rp 100,000 was credited.")).to_be_visible(timeout=PAID_S * 1000)
    page.get_by_role("link", name="Go to billing").click()
    expect(page.locator(".plan-head .figure")).to_have_text("Pay as you go")
