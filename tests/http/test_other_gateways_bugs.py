"""Bugs that other gateways have shipped and published: one test each, on ours.

Not here yet, because there is no page for them: "test connection" with weaker rights (CVE-2026-42271) and changing the
configuration without being an administrator (CVE-2026-35029) are of the operator's console, as is one's own role that
can be written (CVE-2026-47102). That the API has no address that changes anything of the kind is in
``test_authorisation.py``, which lists every route that there is.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from billing.settings import load_stripe_settings
from billing.webhooks.signature import WebhookRefused, verify
from gateway.accounts.model import LimitName
from gateway.errors import ConfigurationError
from gateway.keys.text import BODY_LENGTH, PREFIX, checksum
from tests.http.asking import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    Answer,
    ask,
    bearer,
    body_of,
    connect,
    send,
    wire_bytes,
)
from tests.plugins.portal import ENVIRONMENT, portal_settings, text_of

BOTH = pytest.mark.parametrize("path", [RESPONSES, CHAT])
LOOPBACK = "0100007F"
LISTENING = "0A"


class Trap:
    """A port that nobody has a reason to connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.callers = 0
        self._thread = threading.Thread(target=self._listen)

    @property
    def urls(self) -> list[str]:
        """The ways to write its address."""
        hosts = ("127.0.0.1", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]", "2130706433")
        return [f"http://{host}:{self.port}/v1" for host in hosts]

    @contextlib.contextmanager
    def set(self) -> Iterator["Trap"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(10)
            self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.callers += 1


@pytest.fixture
def trap():
    with Trap().set() as trap:
        yield trap


def presenting(http, key: str, path: str = RESPONSES) -> Answer:
    """Ask with a text in the place of a key."""
    body = json.dumps(body_of(path, "Halo [[sim output=1]]"))
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    with http.stream("POST", path, content=body, headers=headers) as answer:
        return Answer(answer.status_code, answer.headers, answer.read())


def well_formed(body: str) -> str:
    """A key of the right shape and with the right checksum, around a body of anybody's choice."""
    return f"{PREFIX}{body}{checksum(body.encode())}"


async def test_cve_2026_42208_sql_in_a_key_is_a_wrong_key_on_every_path(http, sari, people):
    attacks = (
        "' OR '1'='1",
        "'; DELETE FROM api_key; --",
        '" OR 1=1 --',
        "$1",
        "\\'; SELECT pg_sleep(9)--",
        "%s%(a)s",
    )
    before = await people.db.fetchval("SELECT count(*) FROM api_key")
    for attack in attacks:
        for key in (attack, PREFIX + attack, well_formed(attack.ljust(BODY_LENGTH, "x")[:BODY_LENGTH])):
            answer = presenting(http, key)
            assert (answer.status, answer.code) == (401, "invalid_api_key"), key
    assert await people.db.fetchval("SELECT count(*) FROM api_key") == before
    assert presenting(http, sari.api_key).status == 200


@pytest.mark.parametrize(
    "host", ["gateway/healthz?", "gateway/metrics#", "127.0.0.1:1/healthz", "x/../openapi.json"]
)
@pytest.mark.parametrize("extra", ["", "x-original-url: /healthz\r\nx-rewrite-url: /healthz\r\n", "x-forwarded-prefix: /healthz\r\n"])  # fmt: skip
def test_cve_2026_49468_the_route_that_is_checked_is_the_one_that_is_served(gateway, host, extra):
    """Nothing but the request line says what is asked for, so no header makes a private route a public one."""
    with connect(gateway.port) as connection:
        connection.sendall(
            f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\n{extra}connection: close\r\n\r\n".encode()
        )
        status = int(connection.recv(4096).split()[1])
    assert status in {400, 401}


async def test_cve_2026_35030_a_key_that_shares_all_but_a_little_with_a_cached_one_is_not_it(http, sari):
    assert presenting(http, sari.api_key).status == 200
    body = sari.api_key[len(PREFIX) : len(PREFIX) + BODY_LENGTH]
    for place in (0, 4, BODY_LENGTH // 2, BODY_LENGTH - 1):
        other = "A" if body[place] != "A" else "B"
        twin = well_formed(body[:place] + other + body[place + 1 :])
        assert (presenting(http, twin).status, presenting(http, sari.api_key).status) == (401, 200), place


async def test_cve_2026_47101_no_key_can_do_more_than_the_account_that_made_it(http, people):
    """A cap above the account's limit is only a number, and a key's list of models does not make a model be offered."""
    sari = await people.join("sari", plan="free", limits={LimitName.MONTHLY_TOKENS: 100})
    key = await people.another_key(sari, monthly_tokens=10_000_000, models=("nusantara-base", "unpriced"))
    refused = ask(http, key, RESPONSES, "Halo [[sim output=9]]" * 20)
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    assert ask(http, key, RESPONSES, "Halo", model="unpriced").status == 404


async def test_cve_2026_47101_a_form_for_a_key_knows_no_other_fields(portal):
    sari = await portal.browser().join("sari@example.com")
    for name, value in {
        "account_id": "1",
        "role": "owner",
        "plan_id": "enterprise",
        "is_admin": "true",
    }.items():
        answer = await sari.post("/keys/new", fields={"name": "x", name: value})
        assert answer.status_code in {400, 422}, name
    assert await portal.db.fetchval("SELECT count(*) FROM api_key") == 0


def test_cve_2026_114612_one_secret_does_not_serve_two_purposes():
    pepper = ENVIRONMENT["NUSAGATE_KEY_PEPPER"]
    with pytest.raises(ConfigurationError, match="NUSAGATE_SESSION_SECRET"):
        portal_settings(NUSAGATE_SESSION_SECRET=pepper)
    with pytest.raises(ConfigurationError, match="NUSAGATE_SESSION_SECRET"):
        portal_settings(
            NUSAGATE_SESSION_SECRET=f"v9:another secret of the tests,v2:{pepper.removeprefix('v1:')}"
        )


async def test_cve_2026_59822_whoever_cannot_be_checked_is_nobody(http, sari):
    """There is no master key, no default user, and no other way in beside the one that failed."""
    for header in (
        "Bearer",
        "Bearer null",
        "Bearer undefined",
        "Basic YWRtaW46YWRtaW4=",
        "",
        "bearer sk-1234",
    ):
        for more in ({}, {"x-api-key": sari.api_key}, {"cookie": f"token={sari.api_key}"}):
            answer = http.post(
                RESPONSES, json=body_of(RESPONSES, "Halo"), headers={"authorization": header, **more}
            )
            assert answer.status_code == 401, (header, more)
    for query in ("api_key", "key", "token", "access_token"):
        assert http.post(f"{RESPONSES}?{query}={sari.api_key}", json={}).status_code == 401


NESTED = (
    {"metadata": {"api_base": "URL"}},
    {"metadata": {"extra_body": '{"api_base": "URL"}'}},
    {"extra_body": {"api_base": "URL"}},
    {"litellm_params": {"api_base": "URL"}},
    {"model_config": {"base_url": "URL"}},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"api_base": "URL"}}, "api_base": "URL"}]},
    {"fallbacks": [{"model": "nusantara-base", "api_base": "URL"}]},
    {"user_config": {"model_list": [{"litellm_params": {"api_base": "URL"}}]}},
    {"mock_response": "URL"},
    {"stream_options": {"api_base": "URL"}},
)  # fmt: skip


@BOTH
async def test_pysec_2026_4070_no_field_at_any_depth_names_a_host(http, sari, trap, path):
    for field in NESTED:
        for url in trap.urls[:2]:
            told = json.loads(json.dumps(field).replace("URL", url))
            body = json.dumps({**body_of(path, "Halo [[sim output=1]]"), **told}).encode()
            assert send(http, sari, path, body).status in {200, 400}, told
    assert trap.callers == 0


async def test_ghsa_69x8_hrgq_fjj8_what_is_stored_of_a_key_opens_nothing(http, sari, people):
    digest = await people.db.fetchval("SELECT digest FROM api_key WHERE key_id = $1", sari.key_id)
    for text in (digest.hex(), digest.hex().upper(), f"sha256:{digest.hex()}", PREFIX + digest.hex()):
        assert presenting(http, text).status == 401
    assert presenting(http, well_formed(digest.hex()[:BODY_LENGTH])).status == 401


def test_cve_2026_41432_an_empty_webhook_secret_stops_the_start_and_proves_nothing():
    environ = {"NUSAGATE_STRIPE_SECRET_KEY": "sk_test_x", "NUSAGATE_STRIPE_WEBHOOK_SECRET": ""}
    with pytest.raises(ConfigurationError, match="WEBHOOK_SECRET"):
        load_stripe_settings(environ)
    forged = "t=1790000000,v1=" + "0" * 64
    with pytest.raises(WebhookRefused):
        verify(b"{}", forged, "", now_s=1_790_000_000)


async def test_cve_2026_30886_an_object_of_somebody_else_does_not_exist(http, sari, budi):
    made = ask(http, sari, RESPONSES, "Halo [[sim output=1]]").json["id"]
    theirs = {"headers": bearer(budi)}
    address = f"{RESPONSES}/{made}"
    asked = (
        http.get(address, **theirs),
        http.get(f"{address}/input_items", **theirs),
        http.delete(address, **theirs),
        http.post(f"{address}/cancel", **theirs),
    )
    assert [answer.status_code for answer in asked] == [404] * 4
    assert ask(http, budi, RESPONSES, "Lalu?", previous_response_id=made).status == 404
    assert http.get(address, headers=bearer(sari)).status_code == 200


async def test_cve_2026_25591_a_wildcard_is_a_character(http, sari, portal):
    for pattern in ("%", "nusantara%", "nusantara_base", "nusantara-bas_", "*"):
        assert (
            http.get(f"/v1/models/{pattern.replace('%', '%25')}", headers=bearer(sari)).status_code == 404
        ), pattern
        assert ask(http, sari, RESPONSES, "Halo", model=pattern).status == 404, pattern
    await portal.browser().join("sari@example.com")
    for address in ("%@example.com", "sar_@example.com", "%"):
        browser = portal.browser()
        await browser.post("/reset", email=address)
        answer = await browser.login(address)
        assert answer.status_code != 200 or "Log out" not in answer.text, address
    assert len(await portal.letters("sari@example.com")) == 1


async def test_cve_2026_25802_markup_that_somebody_stored_is_text(portal):
    sari = await portal.browser().join("sari@example.com")
    name = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    await sari.post("/keys/new", fields={"name": name})
    page = await sari.get("/keys")
    assert "<script>alert(1)" not in page.text
    assert "<img src=x" not in page.text
    assert name in text_of_whole(page)
    assert "script-src" in page.headers["content-security-policy"]


def text_of_whole(answer) -> str:
    """What is read on a page, where marks that were stored are letters."""
    return text_of(answer).replace("&lt;", "<").replace("&gt;", ">")


@BOTH
async def test_go_2026_5652_nothing_is_fetched_and_no_redirect_is_followed(
    http, sari, rude_upstream, trap, path
):
    kinds = ({"type": "input_image", "image_url": "URL"}, {"type": "input_file", "file_url": "URL"})
    if path == CHAT:
        kinds = (
            {"type": "image_url", "image_url": {"url": "URL"}},
            {"type": "file", "file": {"file_url": "URL"}},
        )
    for url in trap.urls:
        for kind in kinds:
            content = [json.loads(json.dumps(kind).replace("URL", url))]
            field = {"messages": [{"role": "user", "content": content}]}
            if path == RESPONSES:
                field = {"input": [{"type": "message", "role": "user", "content": content}]}
            body = json.dumps({"model": "nusantara-base", **field}).encode()
            assert send(http, sari, path, body).status in {200, 400}
    assert trap.callers == 0
    redirected = ask(http, sari, path, "[[rude elsewhere]]", model="rude")
    assert (redirected.status, redirected.code) == (502, "upstream_error")
    assert len(rude_upstream.asked_by(redirected.label)) == 1


@pytest.mark.parametrize("path", [RESPONSES, CHAT, EMBEDDINGS])
async def test_cve_2025_66405_no_header_names_the_upstream(http, sari, simulator, trap, path):
    names = ("x-portkey-custom-host", "x-custom-host", "x-upstream-host", "x-forwarded-host", "x-api-base", "x-base-url",
             "x-target-url", "openai-base-url", "x-portkey-config", "forwarded", "host")  # fmt: skip
    for name in names:
        value = json.dumps({"custom_host": trap.urls[0]}) if name.endswith("config") else trap.urls[0]
        answer = ask(http, sari, path, "Halo [[sim output=1]]", headers={name: value})
        assert answer.status == 200, name
        assert simulator.line_of(answer.label)["ending"] == "complete"
    assert trap.callers == 0


@BOTH
async def test_cve_2026_96437_a_large_body_is_looked_at_as_a_small_one_is(http, people, path):
    """What decides stands behind more bytes than any buffer holds; every byte of the prompt counts against the limit."""
    free = await people.join("sari", plan="free", limits={LimitName.MONTHLY_TOKENS: 50_000})
    narrow = await people.another_key(free, models=("tiny",))
    large = "x" * 120_000
    body = body_of(path, large)
    last = json.dumps({name: body[name] for name in sorted(body, key=lambda name: name == "model")}).encode()
    assert last.index(b'"model"') > 65_536
    refused = send(http, narrow, path, last)
    assert (refused.status, refused.code) == (403, "model_not_allowed")
    unknown = send(http, free, path, last[:-1] + b', "api_base": "x"}')
    assert (unknown.status, unknown.code) == (400, "unknown_parameter")
    over = send(http, free, path, last)
    assert (over.status, over.code) == (429, "insufficient_quota")
    assert send(http, free, path, last.replace(b"xxx", b"xxxxxx")).status == 413


def test_cve_2020_11710_what_is_started_without_a_host_listens_to_this_machine_alone(gateway):
    """There is no second, administrative port either: the process listens on one."""
    rows = [
        line.split() for line in Path(f"/proc/{gateway.process.pid}/net/tcp").read_text().splitlines()[1:]
    ]
    mine = [row[1] for row in rows if row[3] == LISTENING and row[1].endswith(f":{gateway.port:04X}")]
    assert mine == [f"{LOOPBACK}:{gateway.port:04X}"]


async def test_cve_2023_28858_the_answer_to_a_cancelled_call_reaches_nobody_else(gateways, people, redis_url):
    """Half of the requests are cut off inside their calls to Redis; the others get their own answers, to the word."""
    sari, budi = await people.join("sari"), await people.join("budi", limits={LimitName.MONTHLY_TOKENS: 1})
    with gateways.running(NUSAGATE_REDIS_URL=redis_url) as gateway, ThreadPoolExecutor(8) as crowd:

        def cut_off(number: int) -> None:
            body = json.dumps(body_of(CHAT, "Halo [[sim output=1]]", user=f"cut-{number}")).encode()
            with connect(gateway.port) as connection:
                connection.sendall(wire_bytes(sari, CHAT, body))

        def asked(person, number: int) -> tuple[int, str | None]:
            body = json.dumps(body_of(RESPONSES, "Halo [[sim output=1]]", user=f"whole-{number}")).encode()
            with connect(gateway.port) as connection:
                connection.sendall(wire_bytes(person, RESPONSES, body, extra="connection: close\r\n"))
                raw = b"".join(iter(lambda: connection.recv(65_536), b""))
            head, _, payload = raw.partition(b"\r\n\r\n")
            return int(head.split()[1]), json.loads(payload).get("user")

        jobs = []
        for number in range(120):
            crowd.submit(cut_off, number)
            jobs.append((200, f"whole-{number}", crowd.submit(asked, sari, number)))
            jobs.append((429, None, crowd.submit(asked, budi, number)))
        for status, user, job in jobs:
            assert await asyncio.to_thread(job.result, 30) == (status, user)
