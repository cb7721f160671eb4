"""Who may see what, for every route that the portal has, and what stands between a form and a forger."""

import base64
import re
from datetime import timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
from litestar.routes import HTTPRoute

from admin.access.totp import code_at, step_of
from admin.app import AdminApp
from admin.portal.docs.library import WRITTEN
from admin.web.admission import Access
from gateway.keys import service as keys
from gateway.runtime import metrics
from tests.plugins.portal import ORIGIN, PASSWORD, Portal, path_of, portal_settings, text_of, token_of

SARI, BUDI = "sari@example.com", "budi@example.com"
NOBODY = UUID(int=7)


@pytest.mark.parametrize("name", ["%00", "in_%00", "%0d%0a", "%7f"])
async def test_an_address_that_nothing_can_have_is_not_found(portal, name):
    sari = await portal.browser().join(SARI)
    for path in ("/billing/invoices/", "/billing/plans/", "/usage/requests/", "/static/"):
        assert (await sari.get(path + name)).status_code == 404


def routes(app: AdminApp) -> list[tuple[str, str, Access]]:
    """Every method and path of the application, with what the route says about itself."""
    found = []
    for route in app.framework.routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            found += [
                (method, route.path, handler.opt.get("access"))
                for method in sorted(handler.http_methods)
                if method != "OPTIONS"
            ]
    return sorted(found, key=str)


ROUTES = routes(AdminApp(portal_settings(), lambda: None))


def filled(path: str, key_id: UUID = NOBODY) -> str:
    """A path with its parameters filled in."""
    return (
        path.replace("{key_id:uuid}", str(key_id))
        .replace("{session_id:uuid}", str(key_id))
        .replace("{request_id:uuid}", str(key_id))
        .replace("{name:path}", "css/tokens.css")
        .replace("{plan_id:str}", "basic")
        .replace("{invoice_id:str}", "in_1")
    )


DOCUMENTATION = {f"GET {path}" for entry in WRITTEN for path in (entry.path, entry.markdown_path)}


def test_every_route_says_whom_it_lets_through():
    assert [(method, path) for method, path, access in ROUTES if access is None] == []


def test_the_routes_that_need_no_login_are_exactly_these():
    anybody = {f"{method} {path}" for method, path, access in ROUTES if access is Access.ANYBODY}
    assert anybody == {
        "GET /", "POST /preferences",
        "GET /signup", "POST /signup", "GET /signup/sent", "POST /signup/resend", "GET /verify", "POST /verify",
        "GET /login", "POST /login", "GET /login/code", "POST /login/code",
        "GET /reset", "POST /reset", "GET /reset/new", "POST /reset/new",
        *DOCUMENTATION, "GET /docs/reference", "GET /docs/explorer", "GET /docs/status",
        "GET /dev/mail", "GET /dev/components",
    }  # fmt: skip
    assets = {f"{method} {path}" for method, path, access in ROUTES if access is Access.ASSET}
    assert assets == {
        "GET /static/{name:path}", "GET /robots.txt", "GET /healthz", "GET /metrics", "GET /readyz", "GET /docs/openapi.json", "GET /llms.txt",
    }  # fmt: skip


def test_keys_money_and_the_account_ask_for_a_fresh_proof():
    changing = {f"{method} {path}" for method, path, access in ROUTES if access is Access.CONFIRMED}
    assert changing == {
        "POST /start/key", "GET /keys/new", "POST /keys/new",
        "GET /keys/{key_id:uuid}/rotate", "POST /keys/{key_id:uuid}/rotate",
        "GET /keys/{key_id:uuid}/revoke", "POST /keys/{key_id:uuid}/revoke",
        "GET /settings/second-factor", "POST /settings/second-factor",
        "POST /settings/recovery", "GET /settings/close", "POST /settings/close",
        "POST /billing/portal", "GET /billing/plans/{plan_id:str}", "POST /billing/plans/{plan_id:str}",
        "GET /billing/cancel", "POST /billing/cancel", "POST /billing/keep",
        "GET /billing/cap", "POST /billing/cap", "POST /billing/cap/remove", "GET /billing/credit", "POST /billing/credit",
    }  # fmt: skip


PROTECTED = [(method, path) for method, path, access in ROUTES if access in {Access.PERSON, Access.CONFIRMED}]


async def test_a_stranger_is_sent_to_the_login_from_every_page_of_the_inside(portal):
    stranger = portal.browser()
    csrf = await stranger.token()
    for method, path in PROTECTED:
        if method == "GET":
            answer = await stranger.get(filled(path), follow_redirects=False)
        else:
            answer = await stranger.client.post(
                filled(path), data={"csrf": csrf}, headers={"origin": ORIGIN}, follow_redirects=False
            )
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login"), path


async def test_somebody_whose_second_factor_is_missing_is_a_stranger(portal):
    sari = await portal.browser().join(SARI)
    await portal.db.execute("UPDATE portal_session SET stage = 'second_factor'")
    for method, path in PROTECTED:
        if method == "GET":
            assert path_of(await sari.get(filled(path))) == "/login", path


async def test_the_key_and_the_session_of_somebody_else_do_not_exist(portal):
    sari, budi = await portal.browser().join(SARI), await portal.browser().join(BUDI)
    await sari.post("/start/key")
    row = await portal.db.fetchrow(
        "SELECT k.key_id, k.account_id, s.session_id FROM api_key k JOIN person USING (account_id)"
        " JOIN portal_session s USING (person_id)"
    )
    owned = [(method, path) for method, path in PROTECTED if "{key_id:uuid}" in path]
    assert len(owned) == 4
    for method, path in owned:
        target = filled(path, row["key_id"])
        answer = await (budi.get(target) if method == "GET" else budi.post(target))
        assert answer.status_code == 404, path
    await budi.post(f"/settings/sessions/{row['session_id']}/end")
    assert path_of(await sari.get("/usage")) == "/usage"
    key = (await keys.list_keys(portal.db, row["account_id"]))[0]
    assert (key.revoked_at, key.replaced_by) == (None, None)


async def test_somebody_whose_proof_is_old_is_asked_again_and_changes_nothing(portal):
    sari = await portal.browser().join(SARI)
    await sari.post("/start/key")
    key_id = await portal.db.fetchval("SELECT key_id FROM api_key")
    portal.clock.move(timedelta(minutes=15))
    for method, path, access in ROUTES:
        if access is Access.CONFIRMED:
            target = filled(path, key_id)
            answer = await (sari.get(target) if method == "GET" else sari.post(target))
            assert path_of(answer) == "/confirm", path
    assert await portal.db.fetchval("SELECT count(*) FROM api_key WHERE revoked_at IS NULL") == 1


# ---------------------------------------------------------------- forged forms

POSTS = [path for method, path, _ in ROUTES if method == "POST"]


async def test_no_form_is_taken_without_its_token(portal):
    sari = await portal.browser().join(SARI)
    for path in POSTS:
        answer = await sari.client.post(filled(path), data={"email": SARI}, headers={"origin": ORIGIN})
        assert answer.status_code == 403, path


async def test_no_form_is_taken_with_the_token_of_another_browser(portal):
    sari, mallory = await portal.browser().join(SARI), portal.browser()
    csrf = await mallory.token()
    for path in POSTS:
        assert (await sari.post(filled(path), csrf=csrf)).status_code == 403, path


async def test_a_token_from_before_the_login_is_no_good_after_it(portal):
    await portal.browser().join(SARI)
    browser = portal.browser()
    before = await browser.token()
    await browser.post("/login", csrf=before, email=SARI, password=PASSWORD)
    assert (await browser.post("/start/key", csrf=before)).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8081.evil.example"},
    ],
)
async def test_no_form_is_taken_from_another_site(portal, headers):
    sari = await portal.browser().join(SARI)
    assert (await sari.post("/start/key", headers=headers)).status_code == 403
    assert await portal.db.fetchval("SELECT count(*) FROM api_key") == 0


async def test_an_old_browser_that_sends_neither_origin_nor_site_is_served(portal):
    sari = await portal.browser().join(SARI)
    answer = await sari.client.post("/start/key", data={"csrf": await sari.token()})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{}", "application/json"),
        (b"csrf=x", "text/plain"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"a=1&" * 60, "application/x-www-form-urlencoded"),
    ],
)
async def test_what_is_no_form_is_refused(portal, content, content_type):
    answer = await portal.browser().client.post(
        "/login", content=content, headers={"content-type": content_type, "origin": ORIGIN}
    )
    assert answer.status_code == 422


async def test_a_field_that_is_not_known_or_sent_twice_is_refused(portal):
    browser = portal.browser()
    assert (await browser.post("/login", email=SARI, password="x", role="owner")).status_code == 422
    assert (await browser.post("/login", fields={"email": [SARI, BUDI], "password": "x"})).status_code == 422


async def test_a_form_that_is_too_large_is_refused(portal):
    answer = await portal.browser().post("/login", email="a" * 100_000, password="x")
    assert answer.status_code == 413
    assert "larger than any of our forms" in text_of(answer)


# ---------------------------------------------------------------- headers, cookies, errors


async def test_every_answer_has_the_security_headers(portal):
    sari = await portal.browser().join(SARI)
    for path in ("/", "/login", "/nothing", "/static/css/tokens.css", "/healthz", "/usage", "/usage.csv"):
        headers = (await sari.get(path, follow_redirects=False)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';"), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-request-id"].startswith("req_")


async def test_what_this_process_counts_can_be_scraped(portal):
    metrics.webhooks_total.labels("refused").inc()
    answer = await portal.browser().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'nusagate_webhooks_total{outcome="refused"} ' in answer.text


async def test_assets_alone_are_compressed_and_only_for_whom_it_helps(portal):
    browser = portal.browser()
    for path, offered, packed in (
        ("/static/css/components.css", "gzip, deflate, br", True),
        ("/static/css/components.css", "br", False),
        ("/static/css/components.css", "gzip;q=0", False),
        ("/static/icon.svg", "gzip", False),
        ("/static/vendor/inter-latin-wght-normal.woff2", "gzip", False),
        ("/docs", "gzip", False),
    ):
        answer = await browser.get(path, headers={"accept-encoding": offered})
        assert (answer.headers.get("content-encoding") == "gzip") is packed, (path, offered)
        if path.startswith("/static/"):
            asset = portal.parts.assets.get(path.removeprefix("/static/"))
            assert answer.content == asset.content
    vary = (await browser.get("/static/css/components.css", headers={"accept-encoding": "br"})).headers[
        "vary"
    ]
    assert vary == "accept-encoding"


async def test_a_page_that_shows_a_secret_is_in_no_cache(portal):
    sari = await portal.browser().join(SARI)
    made = await sari.post("/start/key")
    assert "nsk_live_" in made.text
    assert made.headers["cache-control"] == "no-store"
    assert (await sari.post("/keys/new", name="two")).headers["cache-control"] == "no-store"
    assert (await sari.get("/settings/second-factor")).headers["cache-control"] == "no-store"
    assert (await sari.get("/usage.csv")).headers["cache-control"] == "no-store"
    assert (await sari.get("/keys")).headers["cache-control"] == "private, no-cache"


async def test_every_answer_that_holds_a_secret_is_in_no_cache(portal):
    """Whatever the portal answers in the life of an account: who sees a secret in it must not find it in a cache."""
    answers = []

    async def keep(answer) -> None:
        answers.append(answer)

    sari, phone = portal.browser(), portal.browser()
    for browser in (sari, phone):
        browser.client.event_hooks["response"] = [keep]
    await sari.post("/signup", email=SARI, password=PASSWORD)
    link = await portal.link(SARI)
    await sari.get("/dev/mail")
    await phone.get(link)
    await sari.get(link)
    keys_made = [between(await sari.post("/start/key"), 'id="new-key">')]
    keys_made.append(between(await sari.post("/keys/new", name="two"), 'id="new-key">'))
    key_id = await portal.db.fetchval("SELECT key_id FROM api_key LIMIT 1")
    keys_made.append(between(await sari.post(f"/keys/{key_id}/rotate", grace="1h"), 'id="new-key">'))
    app_secret = between(await sari.get("/settings/second-factor"), 'id="totp-secret">')
    code = code_at(base64.b32decode(app_secret.replace(" ", "")), step_of(portal.clock.now()))
    codes = re.findall(
        r"<li>(\w{5}-\w{5})</li>", (await sari.post("/settings/second-factor", code=code)).text
    )
    codes += re.findall(r"<li>(\w{5}-\w{5})</li>", (await sari.post("/settings/recovery")).text)
    await phone.post("/reset", email=SARI)
    reset = await portal.link(SARI)
    await phone.get(reset)
    token = reset.partition("token=")[2]
    await phone.post("/reset/new", fields={"token": token, "password": "short"})
    for path in ("/start", "/keys", "/usage", "/limits", "/settings", "/dev/mail"):
        await sari.get(path)
    secrets = [link.partition("token=")[2], token, *keys_made, app_secret, *codes, token_of(sari)]
    assert [len(keys_made), len(codes), all(secrets)] == [3, 20, True]
    seen = {secret for secret in secrets for answer in answers if secret in answer.text}
    assert seen == set(secrets) - {token_of(sari)}
    open_to_caches = [
        str(answer.url.path)
        for answer in answers
        if any(secret in answer.text for secret in secrets) and answer.headers["cache-control"] != "no-store"
    ]
    assert open_to_caches == []


def between(answer, mark: str) -> str:
    return answer.text.partition(mark)[2].partition("<")[0]


async def test_over_https_every_cookie_is_bound_to_the_host(seeded, clock):
    portal = Portal(
        seeded,
        clock,
        portal_settings(
            NUSAGATE_PUBLIC_URL="https://portal.example.com", NUSAGATE_SMTP_URL="smtp://mail.example.com"
        ),
    )
    answer = await portal.browser().get("/login")
    cookies = answer.headers.get_list("set-cookie")
    assert cookies
    for cookie in cookies:
        assert cookie.startswith("__Host-nusagate_")
        assert "; Path=/; HttpOnly; SameSite=Lax; Max-Age=" in cookie
        assert cookie.endswith("; Secure")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_a_session_cookie_is_never_readable_by_a_script(portal):
    sari = portal.browser()
    await sari.post("/signup", email=SARI, password=PASSWORD)
    answer = await sari.get(await portal.link(SARI), follow_redirects=False)
    session = next(cookie for cookie in answer.headers.get_list("set-cookie") if "nusagate_session" in cookie)
    assert "HttpOnly" in session
    assert token_of(sari) not in (await sari.get("/settings")).text


async def test_mail_is_on_a_page_in_dev_only(seeded, clock):
    settings = portal_settings(NUSAGATE_SMTP_URL="smtp://mail.example.com")
    assert not any("/dev/" in path for _, path, _ in routes(AdminApp(settings, lambda: None)))
    portal = Portal(seeded, clock, settings)
    assert (await portal.browser().get("/dev/mail")).status_code == 404


async def test_an_error_page_says_what_to_mention_and_nothing_else(portal):
    await portal.db.execute("ALTER TABLE plan RENAME TO plan_away")
    try:
        answer = await portal.browser().get("/")
    finally:
        await portal.db.execute("ALTER TABLE plan_away RENAME TO plan")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "plan_away" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/日本",
        "/caf\xe9",
        "",
    ],
)
async def test_a_login_goes_on_to_pages_of_ours_only(portal, following):
    await portal.browser().join(SARI)
    answer = await portal.browser().post(
        "/login", fields={"email": SARI, "password": PASSWORD, "next": following}
    )
    assert (str(answer.url).startswith(ORIGIN), path_of(answer)) == (True, "/usage")


async def test_a_login_goes_on_to_where_somebody_wanted_to_be(portal):
    await portal.browser().join(SARI)
    browser = portal.browser()
    asked = await browser.get("/usage?range=7d&by=model")
    assert asked.url.params["next"] == "/usage?range=7d&by=model"
    answer = await browser.post(
        "/login", fields={"email": SARI, "password": PASSWORD, "next": asked.url.params["next"]}
    )
    assert str(answer.url) == f"{ORIGIN}/usage?range=7d&by=model"


async def test_from_every_answer_to_a_form_the_choice_of_language_leads_to_a_page(portal):
    """The choice is at the foot of the page that a form was answered with, whose own address only takes forms."""
    sari = await portal.browser().join(SARI)
    found = {}
    for path in [path for path in POSTS if path != "/logout"]:
        answer = await sari.post(filled(path), follow=False)
        back = re.search(r'name="next" value="([^"]*)">\s*<div class="segments"', answer.text)
        if back is not None:
            found[path] = (await sari.get(unescape(back[1]))).status_code
    assert {"/start/key", "/keys/new", "/settings/password", "/settings/close"} <= set(found)
    assert {path: status for path, status in found.items() if status != 200} == {}


async def test_a_cookie_that_was_made_up_is_nobody(portal):
    browser = portal.browser()
    for value in (str(uuid4()).encode(), b"a" * 5000, b"%00", b"\xc3\xa9", b'"', b"=;="):
        answer = await browser.client.get(
            "/usage", headers={"cookie": b"nusagate_session=" + value}, follow_redirects=False
        )
        assert answer.headers["location"].startswith("/login"), value
