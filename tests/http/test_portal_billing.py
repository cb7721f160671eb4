"""What somebody who pays sees and does: plans, Checkout and back, changes, failed payments, and a Stripe that is away."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from admin.app import open_till
from gateway.accounts.model import AccountStatus
from tests.fakes.processes import free_port
from tests.plugins.paying import COLLECTED, DECEMBER, SARI
from tests.plugins.portal import Portal, path_of, portal_settings, text_of
from tests.plugins.shop import DECLINED, FAILS_LATER, GOOD, Shop


@pytest.fixture
async def unreachable(shop: Shop) -> AsyncIterator[Portal]:
    """The portal of an installation whose Stripe does not answer."""
    settings = msgspec.structs.replace(shop.settings, api_base=f"http://127.0.0.1:{free_port()}")
    till = open_till(settings, shop.clock)
    yield Portal(shop.db, shop.clock, portal_settings(), stripe=settings, till=till)
    await till.stripe.close()


# ---------------------------------------------------------------- from the free plan to a paid one


async def test_a_new_account_sees_that_nothing_is_charged(payer):
    said = await payer.read()
    assert "Your plan Free 10,000 tokens a month" in said
    assert "Nothing is charged. On 1 Dec 2026 your tokens start anew." in said
    assert "Nothing to pay so far" in said
    assert "No invoices" in said
    assert "No card yet" in said
    assert "Cancel the plan" not in said


async def test_plans_are_compared_with_what_they_cost_now_and_then(payer):
    said = await payer.read("/billing/plans")
    left_s = int((DECEMBER - payer.shop.clock.now()).total_seconds())
    share = (2 * 999_900 * left_s + 30 * 86_400) // (2 * 30 * 86_400)
    assert (
        f"Basic 66,667 tokens a month, 30 requests a minute Today Rp {share // 100:,}.{share % 100:02d}"
        in said
    )
    assert "A month Rp 9,999.00" in said
    assert "Pay as you go no monthly limit of its own" in said
    assert "Rp 300 Rp 1,500" in said
    assert "Enterprise" not in said


async def test_a_plan_is_bought_paid_and_there_once_stripe_has_said_so(payer):
    asked = await payer.read("/billing/plans/basic")
    assert "From Free to Basic" in asked
    assert "the share of this month that is left, reckoned to the second" in asked
    assert "From 1 Dec 2026 on, every month Rp 9,999.00" in asked
    back = await payer.buys("basic")
    assert back.startswith("http://127.0.0.1:8081/billing/paid?session=cs_test_")
    waiting = await payer.browser.get(back)
    assert "Waiting for the payment's confirmation…" in text_of(waiting)
    assert (
        f'hx-get="{back.removeprefix("http://127.0.0.1:8081").replace("paid?", "paid/state?")}"'
        in waiting.text
    )
    assert "Look whether it has arrived" in waiting.text
    part = back.replace("/billing/paid?", "/billing/paid/state?")
    assert (await payer.browser.get(part)).status_code == 200
    await payer.shop.catch_up()
    arrived = await payer.browser.get(part)
    assert arrived.status_code == 286
    assert "Your plan is Basic now." in text_of(arrived)
    assert "<html" not in arrived.text
    said = await payer.read()
    assert "Your plan Basic 66,667 tokens a month" in said
    assert "On 1 Dec 2026 the next month is charged, Rp 9,999, and your tokens start anew." in said
    assert "paid" in said.partition("Invoices Number")[2]


async def test_a_page_that_was_left_or_closed_says_that_nothing_was_paid(payer):
    assert "Your plan and your keys are as they were." in await payer.read("/billing/left")
    back = await payer.buys("basic", DECLINED)
    assert "declined" in back
    session_id = await payer.portal.db.fetchval("SELECT session_id FROM checkout_session")
    payer.shop.move(hours=25)
    await payer.comes_at(payer.shop.clock.now())
    assert "Nothing was paid The page of this payment is closed." in await payer.read(
        f"/billing/paid?session={session_id}"
    )


async def test_pay_as_you_go_costs_nothing_today(payer):
    asked = await payer.read("/billing/plans/payg")
    assert "nothing is charged today" in asked
    assert "Set a cap first" in asked
    await payer.has("payg")
    assert "On 1 Dec 2026 the tokens of this month are billed, as below." in await payer.read()


# ---------------------------------------------------------------- changing


async def test_a_dearer_plan_holds_at_once(payer):
    await payer.has("basic")
    asked = await payer.read("/billing/plans/standard")
    assert "If the card is declined, nothing changes." in asked
    said = text_of(await payer.browser.post("/billing/plans/standard", step="dearer"))
    assert "Your plan is changed." in said
    assert await payer.standing() == ("standard", "active")


async def test_a_cheaper_plan_begins_with_the_month_and_the_page_says_so(payer):
    await payer.has("standard")
    assert "nothing is paid back" in await payer.read("/billing/plans/basic")
    said = text_of(await payer.browser.post("/billing/plans/basic", step="cheaper"))
    assert "The cheaper plan is chosen." in said
    assert "On 1 Dec 2026 the plan changes to Basic, and Rp 9,999 is charged for the month." in said
    assert "from 1 Dec 2026" in await payer.read("/billing/plans")
    assert "costs nothing now" in await payer.read("/billing/plans/standard")
    await payer.browser.post("/billing/plans/standard", step="back")
    assert "On 1 Dec 2026 the next month is charged, Rp 59,999," in await payer.read()


async def test_a_card_that_is_declined_changes_nothing_and_says_what_to_do(payer):
    await payer.has("basic", FAILS_LATER)
    answer = await payer.browser.post("/billing/plans/pro", step="dearer")
    assert answer.status_code == 402
    assert "Your card was declined, and nothing has changed." in text_of(answer)
    assert await payer.standing() == ("basic", "active")


async def test_what_was_not_read_is_not_done(payer):
    answer = await payer.browser.post("/billing/plans/basic", step="dearer")
    assert answer.status_code == 409
    assert "What this costs has changed since the page was opened." in text_of(answer)
    assert (await payer.browser.post("/billing/plans/basic")).status_code == 409


@pytest.mark.parametrize("plan", ["gold", "enterprise"])
async def test_what_is_not_sold_is_not_there(payer, plan):
    assert (await payer.browser.get(f"/billing/plans/{plan}")).status_code == 404
    assert (await payer.browser.post(f"/billing/plans/{plan}", step="buy")).status_code == 404


async def test_the_plan_that_is_chosen_leads_back_to_the_plans(payer):
    assert path_of(await payer.browser.get("/billing/plans/free")) == "/billing/plans"
    await payer.has("basic")
    assert path_of(await payer.browser.get("/billing/plans/basic")) == "/billing/plans"
    assert path_of(await payer.browser.get("/billing/plans/free")) == "/billing/cancel"


# ---------------------------------------------------------------- cancelling


async def test_a_plan_is_cancelled_and_kept_after_all(payer):
    await payer.has("basic")
    asked = await payer.read("/billing/cancel")
    assert "Until 1 Dec 2026 Basic From 1 Dec 2026 on Free" in asked
    assert "you can take this back until then" in asked
    said = text_of(await payer.browser.post("/billing/cancel"))
    assert "Your plan is cancelled." in said
    assert "The plan ends on 1 Dec 2026; then Free follows." in said
    said = text_of(await payer.browser.post("/billing/keep"))
    assert "Your plan stays." in said
    assert "Take it back" not in said
    assert path_of(await payer.browser.get("/billing/cancel")) == "/billing/cancel"


async def test_a_cancelled_plan_ends_with_its_month(payer):
    await payer.has("basic")
    await payer.browser.post("/billing/cancel")
    await payer.comes_at(DECEMBER + COLLECTED)
    assert await payer.standing() == ("free", "active")
    assert "Your plan Free" in await payer.read()
    answer = await payer.browser.post("/billing/cancel")
    assert "There is no paid plan any more that could be changed." in text_of(answer)
    assert path_of(await payer.browser.get("/billing/cancel")) == "/billing"


# ---------------------------------------------------------------- a payment that failed


async def test_a_failed_payment_is_said_on_every_page_with_its_date_and_what_follows(payer):
    await payer.has("basic", FAILS_LATER)
    assert "A payment failed" not in await payer.read("/usage")
    await payer.comes_at(DECEMBER + COLLECTED)
    for path in ("/usage", "/keys", "/keys/new", "/limits", "/settings", "/billing", "/billing/plans"):
        said = await payer.read(path)
        assert (
            "A payment failed. Your keys stop on 8 Dec 2026, 01:00 UTC if it is not paid by then" in said
        ), path
    assert "to be paid" in await payer.read()
    assert (await payer.standing())[1] == AccountStatus.ACTIVE


async def test_after_the_grace_the_page_says_that_keys_have_stopped_until_it_is_paid(payer):
    await payer.has("basic", FAILS_LATER)
    await payer.comes_at(DECEMBER + COLLECTED)
    await payer.comes_at(DECEMBER + timedelta(days=7, hours=1))
    said = await payer.read("/usage")
    assert "Your keys have stopped." in said
    assert "Requests get 402; paying brings everything back at once." in said
    address = await payer.goes_on("/billing/portal")
    assert payer.shop.sandbox.submit(address, action="card", card=GOOD)[0] == 303
    [invoice] = payer.shop.get("/v1/invoices?status=open")["data"]
    assert payer.shop.sandbox.submit(address, action="pay", target=invoice["id"])[0] == 303
    await payer.shop.catch_up()
    assert "Your keys have stopped" not in await payer.read("/usage")
    assert await payer.standing() == ("basic", "active")


async def test_a_disputed_payment_is_said(payer):
    await payer.has("basic")
    await payer.portal.db.execute(
        "UPDATE account_entitlement SET status = 'payment_required', notice = 'payment_disputed', notice_at = $1",
        payer.shop.clock.now(),
    )
    assert "Your bank has questioned a payment of yours since 23 Nov 2026" in await payer.read("/keys")


# ---------------------------------------------------------------- what stands in between

FORMS = [
    ("/billing/plans/basic", {"step": "buy"}),
    ("/billing/portal", {}),
    ("/billing/cancel", {}),
    ("/billing/keep", {}),
    ("/billing/cap", {"tokens": "5"}),
    ("/billing/credit", {"choice": "10000000"}),
]


@pytest.mark.parametrize(("path", "fields"), FORMS)
async def test_money_asks_for_a_fresh_proof_and_for_the_pages_own_form(payer, path, fields):
    assert (await payer.browser.post(path, csrf="0" * 64, fields=fields)).status_code == 403
    payer.shop.move(minutes=20)
    assert path_of(await payer.browser.post(path, fields=fields)) == "/confirm"
    assert await payer.portal.db.fetchval("SELECT count(*) FROM checkout_session") == 0
    assert await payer.portal.db.fetchval("SELECT count(*) FROM spend_cap") == 0


async def test_who_asks_stripe_again_and_again_has_to_wait(payer):
    csrf = await payer.browser.token()
    asked = [(await payer.browser.post("/billing/keep", csrf=csrf)).status_code for _ in range(31)]
    assert asked == [422] * 30 + [429]
    payer.shop.move(minutes=1)
    assert (await payer.browser.post("/billing/keep", csrf=csrf)).status_code == 422


async def test_only_stripes_pages_may_be_gone_on_to(payer, portal):
    policy = (await payer.browser.get("/billing")).headers["content-security-policy"]
    assert f"form-action 'self' {payer.shop.sandbox.url};" in policy
    without = (await portal.browser().get("/login")).headers["content-security-policy"]
    assert "form-action 'self';" in without


# ---------------------------------------------------------------- without Stripe


async def test_without_stripe_everything_of_ours_is_shown_and_paying_is_not_offered(portal):
    browser = await portal.browser().join(SARI)
    for path in ("/billing", "/billing/plans", "/billing/plans/basic", "/billing/cap", "/billing/credit"):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
    assert "Paying is not set up on this installation." in text_of(await browser.get("/billing"))
    said = text_of(await browser.get("/billing/plans"))
    assert "Basic 66,667 tokens a month" in said
    assert "not for sale yet" in said
    for path, fields in FORMS[1:4]:
        answer = await browser.post(path, fields=fields)
        assert answer.status_code == 503
        assert "Paying is not set up" in text_of(answer)
    assert (await browser.post("/billing/cap", tokens="5")).status_code == 200


async def test_with_stripe_away_pages_stand_and_forms_say_that_nothing_was_done(payer, unreachable):
    await payer.has("basic")
    browser = unreachable.browser()
    await browser.login(SARI)
    said = text_of(await browser.get("/billing"))
    assert "Your plan Basic" in said
    answer = await browser.post("/billing/portal")
    assert answer.status_code == 503
    assert "cannot be reached at the moment. Nothing was changed" in text_of(answer)
    for path, fields in (("/billing/plans/pro", {"step": "dearer"}), ("/billing/cancel", {})):
        answer = await browser.post(path, fields=fields)
        assert answer.status_code == 504
        assert "look there before you try again" in text_of(answer)
    assert await payer.standing() == ("basic", "active")


async def test_a_stripe_that_says_nothing_is_not_waited_for(payer):
    await payer.has("basic")
    settings = portal_settings(NUSAGATE_PAYMENT_TIMEOUT_S="1")
    hasty = Portal(
        payer.portal.db, payer.shop.clock, settings, stripe=payer.shop.settings, till=payer.portal.parts.till
    )
    payer.shop.sandbox.faults({"path": "/v1/billing_portal/*", "kind": "delay", "wait_s": 5})
    browser = hasty.browser()
    await browser.login(SARI)
    answer = await browser.post("/billing/portal")
    assert answer.status_code == 503
