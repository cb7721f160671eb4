"""What somebody who pays has to pay and may spend: charges, invoices, statements, caps, credit, and mail before a limit."""

from datetime import UTC, datetime

import msgspec
import pytest

from billing.caps import alerts
from tests.plugins.billing import spend
from tests.plugins.paying import SARI, customer
from tests.plugins.portal import Portal, path_of, text_of
from tests.plugins.shop import GOOD

BUDI = "budi@example.com"

# ---------------------------------------------------------------- charges, invoices, statements


async def test_the_months_charges_are_tokens_times_price(payer):
    await payer.has("payg")
    await spend(payer.portal.db, [payer.account_id], [datetime(2026, 11, 23, 1, tzinfo=UTC)], entries=5)
    row = await payer.portal.db.fetchrow(
        "SELECT sum(input_text_tokens) AS input, sum(output_text_tokens) AS output FROM ledger_entry"
    )
    said = await payer.read()
    assert f"nusantara-base input {row['input']:,} Rp 300 Rp" in said
    assert f"nusantara-base output {row['output']:,} Rp 1,500 Rp" in said
    micro = row["input"] * 300 + row["output"] * 1500
    assert f"Usage to be billed, rounded once Rp {round(micro / 10_000) / 100:.2f}" in said
    statement = await payer.read("/billing/statement?month=2026-11")
    assert "Statement of November 2026" in statement
    assert "The month is not closed: this may still change." in statement
    answer = await payer.browser.get("/billing/statement.csv?month=2026-11")
    assert answer.headers["content-disposition"] == 'attachment; filename="statement-2026-11.csv"'
    assert answer.text.splitlines()[1].startswith(
        f"billed,nusantara-base,idr-1,input_text,{row['input']},300,"
    )


async def test_a_month_of_very_many_requests_does_not_hold_the_page(payer):
    settings = payer.portal.settings
    limits = msgspec.structs.replace(settings.limits, charges_timeout_s=0)
    hasty = Portal(payer.portal.db, payer.shop.clock, msgspec.structs.replace(settings, limits=limits))
    browser = hasty.browser()
    await browser.login(SARI)
    answer = await browser.get("/billing")
    assert "takes a while to make. Open it when you need it." in text_of(answer)
    assert 'href="/billing/statement?month=2026-11"' in answer.text


async def test_what_was_put_right_stands_as_a_line_of_its_own(payer):
    await payer.has("payg")
    await spend(payer.portal.db, [payer.account_id], [datetime(2026, 11, 23, 1, tzinfo=UTC)], entries=1)
    await payer.portal.db.execute(
        """
        INSERT INTO ledger_entry (
            entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint, plan_id, period,
            input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens, output_reasoning_tokens,
            output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable, usage_source, end_reason,
            duration_ms, reason, actor)
        SELECT gen_random_uuid(), gen_random_uuid(), 'adjustment', occurred_at, settled_at, account_id, key_id, model,
            endpoint, plan_id, period, 0, 0, 0, 0, 0, 0, 0, currency, book_id, -100000000000, true, usage_source,
            end_reason, 0, 'a slow afternoon', 'dewi'
        FROM ledger_entry
        """
    )
    for path in ("/billing", "/billing/statement"):
        assert "adjusted a slow afternoon nusantara-base -Rp 0.10" in await payer.read(path)


@pytest.mark.parametrize("month", ["2026-13", "yesterday", "0000-01", "2026-11-01"])
async def test_a_month_that_is_none_is_refused(payer, month):
    assert (await payer.browser.get(f"/billing/statement?month={month}")).status_code == 422
    assert (await payer.browser.get(f"/billing/statement.csv?month={month}")).status_code == 422


async def test_an_invoice_is_shown_to_its_account_only(payer):
    await payer.has("basic")
    invoice_id = await payer.portal.db.fetchval("SELECT invoice_id FROM stripe_invoice")
    answer = await payer.browser.get(f"/billing/invoices/{invoice_id}")
    assert "Basic 23 Nov 2026 \u2013 1 Dec 2026" in text_of(answer)
    assert f'href="{payer.shop.sandbox.url}/i/{invoice_id}"' in answer.text
    session_id = await payer.portal.db.fetchval("SELECT session_id FROM checkout_session")
    budi = await customer(payer.portal, payer.shop, BUDI, "192.0.2.2")
    for path in (f"/billing/invoices/{invoice_id}", f"/billing/paid?session={session_id}"):
        assert (await budi.browser.get(path)).status_code == 404
    assert "No invoices" in await budi.read()


async def test_cards_and_invoices_are_at_stripe_and_lead_back(payer):
    await payer.has("basic")
    address = await payer.goes_on("/billing/portal")
    page = payer.shop.sandbox.send("GET", address.removeprefix(payer.shop.sandbox.url))[2]
    assert "href='http://127.0.0.1:8081/billing'" in page


# ---------------------------------------------------------------- caps and credit


async def test_a_cap_is_set_shown_and_removed(payer):
    await payer.has("payg")
    assert "Set a cap" in await payer.read()
    answer = await payer.browser.post("/billing/cap", amount="50,000", tokens="500.000")
    assert path_of(answer) == "/billing"
    assert "Your cap is set." in text_of(answer)
    assert "Money Rp 0 / Rp 50,000 Tokens 0 / 500,000" in text_of(answer)
    row = await payer.portal.db.fetchrow("SELECT monthly_tokens, monthly_micro FROM spend_cap")
    assert tuple(row) == (500_000, 50_000_000_000)
    form = (await payer.browser.get("/billing/cap")).text
    assert 'name="amount" type="text" value="50000"' in form
    assert "Rp 50,000" in await payer.read("/limits")
    assert "0 of 500,000 tokens of this month used" in await payer.read("/playground")
    assert "Your cap is removed." in text_of(await payer.browser.post("/billing/cap/remove"))
    assert await payer.portal.db.fetchval("SELECT count(*) FROM spend_cap") == 0
    assert path_of(await payer.browser.post("/billing/cap/remove")) == "/billing/cap"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Write an amount, a number of tokens, or both."),
        ({"amount": "50.000"}, "Write the amount in whole rupiah, like 50,000."),
        ({"amount": "1e5"}, "Write the amount in whole rupiah"),
        ({"amount": "-5"}, "Write the amount in whole rupiah"),
        ({"amount": "NaN"}, "Write the amount in whole rupiah"),
        ({"amount": "9" * 40}, "Write the amount in whole rupiah"),
        ({"tokens": "many"}, "whole number of tokens"),
    ],
)
async def test_a_cap_that_cannot_be_is_refused_in_words(payer, fields, said):
    answer = await payer.browser.post("/billing/cap", fields=fields)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert await payer.portal.db.fetchval("SELECT count(*) FROM spend_cap") == 0


async def test_an_amount_is_read_in_the_language_of_the_page(payer):
    await payer.browser.post("/preferences", language="id", next="/billing")
    await payer.browser.post("/billing/cap", amount="50.000")
    assert await payer.portal.db.fetchval("SELECT monthly_micro FROM spend_cap") == 50_000_000_000


async def test_credit_is_paid_in_and_makes_the_account_prepaid(payer):
    address = await payer.goes_on("/billing/credit", choice="10000000")
    _, back = payer.shop.sandbox.submit(address, action="pay", card=GOOD)
    assert "Waiting for the payment" in await payer.read(back)
    await payer.shop.catch_up()
    assert "Rp 100,000 was credited." in await payer.read(back)
    said = await payer.read()
    assert "Your plan Pay as you go" in said
    assert "Usage is paid from your credit." in said
    assert "Credit stops Rp 100,000 Left" in said
    assert "paid in Rp 100,000.00" in await payer.read("/billing/credit")
    assert "Credit what is left Rp 100,000" in await payer.read("/limits")


async def test_another_amount_of_credit_is_read_within_its_bounds(payer):
    address = await payer.goes_on("/billing/credit", choice="other", amount="12,345")
    assert await payer.portal.db.fetchval("SELECT amount_minor FROM checkout_session") == 1_234_500
    assert "/c/pay/" in address
    for amount, said in (("9,999", "less or more"), ("", "Choose an amount"), ("x", "whole rupiah")):
        answer = await payer.browser.post("/billing/credit", choice="other", amount=amount)
        assert answer.status_code == 422
        assert said in text_of(answer)


async def test_the_percents_at_which_there_is_mail_are_chosen(payer):
    page = (await payer.browser.get("/limits")).text
    assert page.count(" checked>") == 3
    answer = await payer.browser.post("/limits/alerts", fields={"percents": ["50", "100"]})
    assert "Your choice of mail is kept." in text_of(answer)
    assert await alerts.choice(payer.portal.db, payer.account_id) == (100, 50)
    await payer.browser.post("/limits/alerts")
    assert await alerts.choice(payer.portal.db, payer.account_id) == ()
    assert (await payer.browser.post("/limits/alerts", percents="60")).status_code == 422
