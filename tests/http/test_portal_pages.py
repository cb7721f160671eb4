"""What the pages of the inside show and do: keys, limits, language."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ids import uuid7
from gateway.keys import service as keys
from gateway.keys.model import KeyStatus
from tests.plugins.portal import path_of, text_of

SARI = "sari@example.com"
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@pytest.fixture
async def sari_inside(portal):
    return await portal.browser().join(SARI)


async def account_of(portal):
    return await portal.db.fetchval("SELECT account_id FROM person WHERE email = $1", SARI)


async def keys_of(portal):
    return await keys.list_keys(portal.db, await account_of(portal))


def key_in(answer) -> str:
    return answer.text.partition('id="new-key">')[2].partition("<")[0]


# ---------------------------------------------------------------- onboarding


async def test_one_click_makes_a_key_that_is_shown_once_in_every_request(portal, sari_inside):
    made = await sari_inside.post("/start/key")
    text = key_in(made)
    assert len(text) == 47
    assert made.text.count(text) == 4
    assert portal.settings.base.api_url in made.text
    assert text not in (await sari_inside.get("/start")).text
    found = await portal.db.fetchval("SELECT count(*) FROM api_key WHERE digest IS NOT NULL")
    assert found == 1


async def test_keys_that_are_made_by_a_click_are_told_apart_in_the_owners_language(portal, sari_inside):
    await sari_inside.post("/start/key")
    await sari_inside.post("/start/key")
    await sari_inside.post("/preferences", language="id")
    await sari_inside.post("/start/key")
    assert [key.scopes.name for key in await keys_of(portal)] == ["kunci lain", "another key", "first key"]


async def test_the_page_listens_until_the_first_call_has_been_counted(portal, sari_inside):
    await sari_inside.post("/start/key")
    waiting = await sari_inside.get("/start/call")
    assert (waiting.status_code, "Listening for your first call" in waiting.text) == (200, True)
    key = (await keys_of(portal))[0]
    await portal.db.execute(
        """
        INSERT INTO ledger_entry (entry_id, request_id, kind, occurred_at, settled_at, account_id, key_id, model, endpoint,
            plan_id, period, input_text_tokens, input_cached_tokens, input_audio_tokens, output_text_tokens,
            output_reasoning_tokens, output_audio_tokens, quota_tokens, currency, book_id, amount_pico, billable,
            usage_source, end_reason, duration_ms)
        VALUES ($1, $1, 'usage', $2, $2, $3, $4, 'nusantara-base', 'responses', 'free', '2026-11', 6, 0, 0, 27, 0, 0, 33,
            'idr', 'idr-1', 42300000000, false, 'upstream', 'completed', 44)
        """,
        uuid7(), portal.clock.now(), key.account_id, key.key_id,
    )  # fmt: skip
    arrived = await sari_inside.get("/start/call")
    assert arrived.status_code == 286
    said = text_of(arrived)
    assert "Your first call has arrived. Tokens 33 Input + output 6 + 27 Worth Rp 0.0423 Took 44 ms" in said


async def test_a_part_of_a_page_sends_a_stranger_to_the_login_as_a_whole(portal):
    answer = await portal.browser().get("/start/call", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/login?next=%2Fstart")


# ---------------------------------------------------------------- keys


async def test_a_key_is_made_with_everything_that_was_chosen(portal, sari_inside):
    answer = await sari_inside.post(
        "/keys/new",
        fields={
            "name": "blog server",
            "expiry": "30d",
            "monthly_tokens": "2,000",
            "models": ["nusantara-base"],
            "ip_ranges": "203.0.113.0/24, 2001:db8::/48",
        },
    )
    assert len(key_in(answer)) == 47
    scopes = (await keys_of(portal))[0].scopes
    assert scopes.name == "blog server"
    assert scopes.expires_at == NOW + timedelta(days=30)
    assert scopes.monthly_tokens == 2000
    assert scopes.models == ("nusantara-base",)
    assert scopes.ip_ranges == ("203.0.113.0/24", "2001:db8::/48")


async def test_a_new_key_stands_in_a_request_that_it_may_make(portal, sari_inside):
    made = await sari_inside.post("/keys/new", fields={"name": "small", "models": ["smollm2-135m"]})
    text = key_in(made)
    assert (made.text.count(text), made.headers["cache-control"]) == (4, "no-store")
    assert '"model": "smollm2-135m"' in text_of(made)
    assert f"curl {portal.settings.base.api_url}/v1/responses" in text_of(made)
    key = (await keys_of(portal))[0]
    rotated = await sari_inside.post(f"/keys/{key.key_id}/rotate", grace="1h")
    assert rotated.text.count(key_in(rotated)) == 4
    assert '"model": "smollm2-135m"' in text_of(rotated)


async def test_a_day_is_whole(portal, sari_inside):
    await sari_inside.post("/keys/new", fields={"name": "x", "expiry": "date", "expires_on": "2026-11-23"})
    assert (await keys_of(portal))[0].scopes.expires_at == datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": " "}, "Give the key a name"),
        ({"name": "x" * 101}, "Give the key a name"),
        ({"name": "x", "monthly_tokens": "many"}, "whole number of tokens"),
        ({"name": "x", "monthly_tokens": "-5"}, "whole number of tokens"),
        ({"name": "x", "expiry": "date", "expires_on": "2026-11-22"}, "over already"),
        ({"name": "x", "expiry": "date", "expires_on": "tomorrow"}, "Write the day as"),
        ({"name": "x", "expiry": "soon"}, "Choose when the key ends"),
        ({"name": "x", "models": ["another"]}, "not offered"),
        ({"name": "x", "ip_ranges": "everywhere"}, "everywhere is not an address range"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_in_words(portal, sari_inside, fields, said):
    answer = await sari_inside.post("/keys/new", fields=fields)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert await keys_of(portal) == []


@pytest.mark.parametrize(
    ("grace", "length"),
    [("0", None), ("15m", timedelta(minutes=15)), ("1h", timedelta(hours=1)), ("24h", timedelta(hours=24))],
)
async def test_a_rotated_key_works_for_as_long_as_was_chosen(portal, sari_inside, grace, length):
    await sari_inside.post("/keys/new", name="blog server")
    old = (await keys_of(portal))[0]
    answer = await sari_inside.post(f"/keys/{old.key_id}/rotate", grace=grace)
    assert len(key_in(answer)) == 47
    new, old = await keys_of(portal)
    assert (new.scopes.name, old.replaced_by) == ("blog server", new.key_id)
    if length is None:
        assert old.status(NOW) is KeyStatus.REVOKED
    else:
        assert (old.scopes.expires_at, old.status(NOW)) == (NOW + length, KeyStatus.ACTIVE)


async def test_a_key_that_cannot_be_made_is_refused_in_the_owners_language(portal, sari_inside, monkeypatch):
    await sari_inside.post("/preferences", language="id")
    await sari_inside.post("/keys/new", name="blog server")
    key = (await keys_of(portal))[0]
    await sari_inside.post(f"/keys/{key.key_id}/rotate", grace="1h")
    twice = await sari_inside.post(f"/keys/{key.key_id}/rotate", grace="1h")
    assert (twice.status_code, "Kunci ini sudah dicabut" in text_of(twice)) == (409, True)
    monkeypatch.setattr("gateway.keys.service.KEYS_PER_ACCOUNT_MAX", 2)
    more = await sari_inside.post("/keys/new", name="one more")
    assert (more.status_code, "Cabut satu yang tidak dipakai." in text_of(more)) == (409, True)


async def test_revoking_warns_with_the_last_use_and_keeps_the_key_in_the_list(portal, sari_inside):
    await sari_inside.post("/keys/new", name="blog server")
    key = (await keys_of(portal))[0]
    assert "was never used" in text_of(await sari_inside.get(f"/keys/{key.key_id}/revoke"))
    await portal.db.execute(
        "UPDATE api_key SET last_used_at = $1, last_used_model = 'nusantara-base'", NOW - timedelta(minutes=3)
    )
    asked = text_of(await sari_inside.get(f"/keys/{key.key_id}/revoke"))
    assert "was last used 3 minutes ago (nusantara-base)" in asked
    listed = await sari_inside.post(f"/keys/{key.key_id}/revoke")
    assert "The key is revoked" in text_of(listed)
    assert "Revoked and expired" in text_of(listed)
    assert f"{key.prefix}…{key.last4}" in text_of(listed)
    assert "The key is revoked" not in text_of(await sari_inside.get("/keys"))


async def test_a_key_shows_what_it_used_this_month(portal, sari_inside):
    await sari_inside.post("/keys/new", name="blog server", monthly_tokens="5000")
    key = (await keys_of(portal))[0]
    await portal.db.execute(
        "INSERT INTO quota_counter VALUES ($1, $2, '2026-11', 1234, 0), ($1, $2, '2026-10', 9, 0)",
        key.account_id, key.key_id,
    )  # fmt: skip
    assert "1,234 5,000" in text_of(await sari_inside.get("/keys"))


async def test_what_somebody_typed_is_shown_as_text(portal, sari_inside):
    name = "<script>alert(1)</script>"
    answer = await sari_inside.post("/keys/new", name=name)
    assert name not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert name not in (await sari_inside.get("/keys")).text


# ---------------------------------------------------------------- limits, language


async def test_limits_show_what_is_in_force_and_the_body_of_a_refusal(portal, sari_inside):
    await portal.db.execute("UPDATE account SET limits = '{\"requests_per_minute\": 77}'")
    said = text_of(await sari_inside.get("/limits"))
    assert "Tokens a month 10,000" in said
    assert "Requests a minute set for your account 77" in said
    assert '"code": "insufficient_quota"' in said
    assert '"limit": 10000' in said


async def test_the_language_is_the_accounts_then_the_cookies_then_the_browsers(portal, sari_inside):
    english = portal.browser(**{"accept-language": "fr,en;q=0.8,id;q=0.7"})
    assert (await english.get("/login")).headers["content-language"] == "en"
    answer = await english.post("/preferences", language="id", next="/reset")
    assert (path_of(answer), answer.headers["content-language"]) == ("/reset", "id")
    await sari_inside.post("/preferences", language="id", next="/usage")
    elsewhere = portal.browser(network="192.0.2.99")
    answer = await elsewhere.login(SARI)
    assert "Pemakaian" in text_of(answer)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("browser", 'data-local title="23 Nov 2026, 02:00 UTC">23 Nov 2026, 02:00 UTC</time>'),
        ("utc", 'title="23 Nov 2026, 02:00 UTC">23 Nov 2026, 02:00 UTC</time>'),
        ("business", 'title="23 Nov 2026, 02:00 UTC">23 Nov 2026, 09:00 WIB</time>'),
        ("somewhere", 'data-local title="23 Nov 2026, 02:00 UTC">23 Nov 2026, 02:00 UTC</time>'),
    ],
)
async def test_moments_are_in_the_zone_that_was_chosen_and_have_utc_in_their_title(
    portal, sari_inside, zone, said
):
    page = await sari_inside.post("/preferences", zone=zone, next="/settings")
    assert f'<time datetime="2026-11-23T02:00:00Z" {said}' in page.text
    chosen = page.text.partition(f'name="zone" value="{zone if zone != "somewhere" else "browser"}" ')[2]
    assert chosen.startswith('aria-pressed="true"')


async def test_the_theme_is_kept(portal):
    browser = portal.browser()
    assert "data-theme" not in (await browser.get("/login")).text
    assert 'data-theme="dark"' in (await browser.post("/preferences", theme="dark", next="/login")).text
