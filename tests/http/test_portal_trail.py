"""What somebody does to keys, money and access is kept once, by whom, and without a secret; so is what follows by itself."""

import base64
import re

import msgspec
import pytest

from admin.access.totp import code_at, step_of
from gateway.audit import service as audit
from gateway.audit.model import Source
from tests.plugins.paying import COLLECTED, DECEMBER, SARI
from tests.plugins.portal import PASSWORD, token_of
from tests.plugins.shop import FAILS_LATER, GOOD

NEW_PASSWORD = "teh tawar hangat pagi"


def between(answer, before):
    return re.search(re.escape(before) + "([^<]+)<", answer.text)[1]


async def newest_key(payer):
    return await payer.portal.db.fetchval("SELECT key_id FROM api_key ORDER BY created_at DESC LIMIT 1")


async def made_key(payer):
    made = await payer.browser.post("/keys/new", name="blog")
    return between(made, 'id="new-key">')


async def rotates(payer):
    old = await made_key(payer)
    answer = await payer.browser.post(f"/keys/{await newest_key(payer)}/rotate", grace="1h")
    return old, between(answer, 'id="new-key">')


async def revokes(payer):
    await made_key(payer)
    await payer.browser.post(f"/keys/{await newest_key(payer)}/revoke")


async def caps(payer):
    await payer.browser.post("/billing/cap", tokens="5000")


async def caps_no_more(payer):
    await caps(payer)
    await payer.browser.post("/billing/cap/remove")


async def pays_in(payer):
    await payer.goes_on("/billing/credit", choice="5000000")


async def buys(payer):
    await payer.buys("basic")


async def changes_plan(payer):
    await payer.has("basic")
    await payer.browser.post("/billing/plans/standard", step="dearer")


async def cancels(payer):
    await payer.has("basic")
    await payer.browser.post("/billing/cancel")


async def keeps(payer):
    await cancels(payer)
    await payer.browser.post("/billing/keep")


async def changes_password(payer):
    await payer.browser.post("/settings/password", current=PASSWORD, password=NEW_PASSWORD)
    return (NEW_PASSWORD,)


async def resets_password(payer):
    other = payer.portal.browser()
    await other.post("/reset", email=SARI)
    token = (await payer.portal.link(SARI)).partition("token=")[2]
    await other.post("/reset/new", fields={"token": token, "password": NEW_PASSWORD})
    return token, NEW_PASSWORD


async def asks_for_a_second_factor(payer):
    secret = between(await payer.browser.get("/settings/second-factor"), 'id="totp-secret">')
    code = code_at(base64.b32decode(secret.replace(" ", "")), step_of(payer.portal.clock.now()))
    codes = await payer.browser.post("/settings/second-factor", code=code)
    return secret, *re.findall(r"<li>(\w{5}-\w{5})</li>", codes.text)


async def asks_for_none(payer):
    await asks_for_a_second_factor(payer)
    await payer.browser.post("/settings/second-factor/off", password=PASSWORD)


async def renews_recovery_codes(payer):
    await asks_for_a_second_factor(payer)
    codes = await payer.browser.post("/settings/recovery")
    return re.findall(r"<li>(\w{5}-\w{5})</li>", codes.text)


async def ends_a_session(payer):
    other = payer.portal.browser()
    await other.login(SARI)
    session_id = await payer.portal.db.fetchval(
        "SELECT session_id FROM portal_session ORDER BY created_at DESC, session_id DESC LIMIT 1"
    )
    await payer.browser.post(f"/settings/sessions/{session_id}/end")
    return (token_of(other),)


async def ends_other_sessions(payer):
    await payer.browser.post("/settings/sessions/end-others")


async def chooses_alerts(payer):
    await payer.browser.post("/limits/alerts", fields={"percents": ["50"]})


async def joins(payer):
    """The payer has."""


async def leaves(payer):
    await payer.browser.post("/settings/close", email=SARI)


DONE = {
    "account:join": joins,
    "account:close": leaves,
    "alert:choose": chooses_alerts,
    "cap:remove": caps_no_more,
    "cap:set": caps,
    "credit:checkout": pays_in,
    "key:create": made_key,
    "key:revoke": revokes,
    "key:rotate": rotates,
    "password:change": changes_password,
    "password:reset": resets_password,
    "plan:cancel": cancels,
    "plan:change": changes_plan,
    "plan:checkout": buys,
    "plan:keep": keeps,
    "recovery_codes:renew": renews_recovery_codes,
    "second_factor:switch_off": asks_for_none,
    "second_factor:switch_on": asks_for_a_second_factor,
    "session:end": ends_a_session,
    "session:end_others": ends_other_sessions,
}


async def kept(payer, action):
    return await audit.list_events(
        payer.portal.db, account_id=payer.account_id, action=action, since=None, limit=100
    )


@pytest.mark.parametrize("action", DONE)
async def test_what_somebody_does_is_kept_once_and_holds_no_secret(payer, action):
    found = await DONE[action](payer)
    secrets = [found] if isinstance(found, str) else list(found or ())
    (event,) = await kept(payer, action)
    person_id = await payer.portal.db.fetchval(
        "SELECT person_id FROM person WHERE account_id = $1", payer.account_id
    )
    assert (event.actor, event.source) == (f"person:{person_id}", Source.PORTAL)
    rows = await payer.portal.db.fetch("SELECT to_jsonb(a)::text AS text FROM audit_event a")
    trail = "".join(row["text"] for row in rows)
    assert [
        secret
        for secret in [
            PASSWORD,
            SARI,
            token_of(payer.browser) if action != "account:close" else PASSWORD,
            *secrets,
        ]
        if secret in trail
    ] == []


async def test_what_is_refused_is_not_kept(payer):
    await payer.browser.post("/settings/password", current="wrong", password=NEW_PASSWORD)
    await payer.browser.post("/billing/cap/remove")
    await payer.browser.post("/billing/keep")
    assert [event.action for event in await kept(payer, None)] == ["account:join"]


async def test_what_a_payment_gives_and_takes_and_brings_back_is_kept_as_a_decision(payer):
    await payer.has("basic", FAILS_LATER)
    payer.shop.move_to(DECEMBER + COLLECTED)
    await payer.shop.catch_up()
    payer.shop.move(days=20)
    await payer.shop.catch_up()
    await payer.shop.use_card(payer, GOOD)
    assert await payer.shop.pay_open_invoice(payer) == 303
    await payer.shop.catch_up()
    events = (await kept(payer, "account:entitle"))[::-1]
    assert {(event.actor, event.source) for event in events} == {("nusagate", Source.WORKER)}
    given = [msgspec.json.decode(event.after) for event in events]
    assert [(one["plan_id"], one["status"], one["notice"]) for one in given] == [
        ("basic", "active", None),
        ("basic", "active", "payment_failed"),
        ("basic", "payment_required", "payment_required"),
        ("basic", "active", None),
    ]
    assert [event.before for event in events[1:]] == [event.after for event in events[:-1]]
