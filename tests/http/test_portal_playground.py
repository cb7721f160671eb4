"""The playground: its requests go through the real gateway, arrive in pieces, cost once, and never show a key."""

import ast
import asyncio
import json
import re
import shlex
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest

from admin.portal.playground.code import code_of
from admin.portal.playground.key import playground_key
from admin.portal.playground.model import Ask, Role, Turn
from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.clock import SystemClock
from gateway.http.error_table import ERRORS
from gateway.ids import request_label
from gateway.keys import service as keys
from gateway.keys.model import KeyStatus
from tests.fakes.processes import free_port
from tests.plugins.gateway import Books
from tests.plugins.portal import ORIGIN, Portal, portal_settings, text_of

MODEL = "nusantara-base"
PAUSE = "[[sim output=8 pace_ms=40]] Apa kabar?"
LONG = "[[sim output=400 pace_ms=20]] Apa kabar?"


def portal_at(db, url: str, gateways) -> Portal:
    return Portal(
        db,
        SystemClock(),
        portal_settings(
            NUSAGATE_API_URL="https://api.example.com",
            NUSAGATE_GATEWAY_URL=url,
            NUSAGATE_CONFIG=str(gateways._config),
        ),
    )


@pytest.fixture
async def played(gateway_db, gateway, gateways):
    """A portal beside the real gateway, on the gateway's own database."""
    portal = portal_at(gateway_db, gateway.url, gateways)
    yield portal
    await portal.parts.relay.end()


class Player:
    """Somebody who is inside, and what the books say of them."""

    def __init__(self, portal, browser, account_id) -> None:
        self.portal = portal
        self.books = Books(portal.db)
        self.browser = browser
        self.account_id = account_id

    async def entries(self):
        return await self.portal.db.fetch(
            "SELECT * FROM ledger_entry WHERE account_id = $1 ORDER BY occurred_at", self.account_id
        )

    async def settled(self):
        """Wait until nothing of the account is open, and return its entries."""
        for row in await self.portal.db.fetch(
            "SELECT request_id FROM request_intent WHERE account_id = $1", self.account_id
        ):
            await self.books.closed(request_label(row["request_id"]))
        return await self.entries()

    async def keys(self):
        return await keys.list_keys(self.portal.db, self.account_id)


@pytest.fixture
async def sari(played, people):
    email = f"sari.{uuid4().hex[:12]}@example.com"
    network = f"198.51.{uuid4().int % 250}.{uuid4().int % 250}"
    browser = await played.browser(network=network).join(email)
    account_id = await played.db.fetchval("SELECT account_id FROM person WHERE email = $1", email)
    people._accounts.append(account_id)
    return Player(played, browser, account_id)


def form(*texts: str, **more: str) -> dict[str, object]:
    roles = ["user", "assistant"] * len(texts)
    return {
        "model": MODEL,
        "roles": roles[: len(texts)],
        "texts": list(texts),
        "max_output_tokens": "500",
    } | more


def events(text: str) -> list[dict]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def said(found: list[dict]) -> str:
    return "".join(event.get("delta", "") for event in found if event["type"] == "response.output_text.delta")


def request_of(response_id: str) -> UUID:
    return UUID(response_id.removeprefix("resp_")[:32])


class Wire:
    """A browser's connection to the application itself, which sees every piece and can be cut."""

    def __init__(self, sari: Player) -> None:
        self._sari = sari
        self.messages: asyncio.Queue[dict] = asyncio.Queue()
        self._left = asyncio.Event()
        self._sent = False

    async def start(self, fields: dict[str, object]) -> None:
        client = self._sari.browser.client
        fields = fields | {"csrf": await self._sari.browser.token()}
        self._body = urlencode(fields, doseq=True).encode()
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        headers = [
            (b"host", b"127.0.0.1:8081"),
            (b"cookie", cookies.encode()),
            (b"origin", ORIGIN.encode()),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", b"%d" % len(self._body)),
        ]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/playground/run", "raw_path": b"/playground/run", "query_string": b"", "root_path": "",
            "headers": headers, "client": ("198.51.100.9", 4711), "server": ("127.0.0.1", 8081),
        }  # fmt: skip
        self.task = asyncio.create_task(self._sari.portal.app(scope, self._receive, self.messages.put))

    async def next(self) -> dict:
        return await asyncio.wait_for(self.messages.get(), timeout=20)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}


# ---------------------------------------------------------------- an answer


async def test_a_stream_arrives_in_pieces_and_costs_once(sari):
    wire = Wire(sari)
    await wire.start(form(PAUSE, stream="on"))
    start = await wire.next()
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
    assert headers[b"cache-control"] == b"no-store"
    first = await wire.next()
    while b"output_text.delta" not in first["body"]:
        first = await wire.next()
    # The model has not written everything yet, because it waits between its tokens.
    assert await sari.entries() == []
    text = first["body"].decode()
    while (piece := await wire.next()).get("more_body"):
        text += piece["body"].decode()
    wire.leave()
    await wire.task
    completed = events(text)[-1]
    assert completed["type"] == "response.completed"
    entries = await sari.entries()
    assert len(entries) == 1
    assert entries[0]["request_id"] == request_of(completed["response"]["id"])
    assert entries[0]["output_text_tokens"] == 8


async def test_an_answer_that_is_not_streamed_is_the_apis_own_object(sari):
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?", temperature="0.2"))
    response = answer.json()
    assert (answer.status_code, response["status"], response["temperature"]) == (200, "completed", 0.2)
    assert (response["store"], response["max_output_tokens"]) == (False, 500)
    entries = await sari.settled()
    assert [entry["request_id"] for entry in entries] == [request_of(response["id"])]


async def test_what_it_cost_is_what_the_ledger_says(sari):
    answer = await sari.browser.post("/playground/run", fields=form("[[sim output=27]] Apa kabar?"))
    request_id = request_of(answer.json()["id"])
    receipt = await sari.browser.get(f"/playground/receipt/{request_id}")
    entry = (await sari.settled())[0]
    total = entry["input_text_tokens"] + 27
    assert receipt.status_code == 200
    assert f"Tokens {total} Input + output {total - 27} + 27 Worth Rp 0.0" in text_of(receipt)
    assert f"{total} of 10,000 tokens of this month used" in text_of(receipt)


async def test_the_receipt_of_somebody_else_does_not_exist(sari, played):
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    email = f"budi.{uuid4().hex[:12]}@example.com"
    budi = await played.browser(network=f"203.0.113.{uuid4().int % 250}").join(email)
    receipt = await budi.get(f"/playground/receipt/{request_of(answer.json()['id'])}")
    assert receipt.status_code == 202
    assert "Tokens" not in receipt.text


async def test_a_conversation_of_several_turns_is_sent_whole(sari):
    fields = form(
        "Siapa kamu?", "Saya Nusantara.", "Dan siapa saya?", instructions="Jawab singkat.", stream="on"
    )
    answer = await sari.browser.post("/playground/run", fields=fields)
    completed = events(answer.text)[-1]["response"]
    assert completed["instructions"] == "Jawab singkat."
    shown = await sari.browser.post("/playground/code", fields=fields)
    assert text_of(shown).count('"role": "assistant"') == 2
    assert len(await sari.settled()) == 1


async def test_without_a_script_the_answer_is_a_page(sari):
    page = await sari.browser.post("/playground", fields=form("[[sim output=9]] Apa kabar?"))
    assert page.status_code == 200
    turns = re.findall(r"<textarea name=\"texts\"[^>]*>\n([^<]*)</textarea>", page.text)
    assert [bool(turn) for turn in turns] == [True, True, False, False]
    assert "+ 9 Worth Rp 0.0" in text_of(page)
    more = await sari.browser.post("/playground", fields=form("Apa kabar?", action="add"))
    assert more.text.count('<select name="roles"') == 3
    code = await sari.browser.post("/playground", fields=form("Selamat pagi", action="code"))
    assert '"content": "Selamat pagi"' in text_of(code)
    assert len(await sari.settled()) == 1


# ---------------------------------------------------------------- leaving


async def test_who_leaves_under_drain_is_charged_the_whole_answer(sari):
    await leave_in_the_middle(sari, "[[sim output=40 pace_ms=20]] Apa kabar?")
    entry = (await sari.settled())[0]
    assert (entry["end_reason"], entry["output_text_tokens"]) == ("client_gone_drained", 40)


async def test_who_leaves_under_cancel_stops_the_model(sari):
    await sari.portal.db.execute("UPDATE account SET plan_id = 'payg' WHERE account_id = $1", sari.account_id)
    wire = await leave_in_the_middle(sari, LONG)
    entry = (await sari.settled())[0]
    assert entry["end_reason"] == "client_gone_cancelled"
    assert 0 < entry["output_text_tokens"] < 400
    receipt = await sari.browser.get(f"/playground/receipt/{entry['request_id']}")
    assert "stopped by you" in text_of(receipt)
    assert wire.task.done()


async def leave_in_the_middle(sari, prompt) -> Wire:
    wire = Wire(sari)
    await wire.start(form(prompt, stream="on"))
    await wire.next()
    while b"output_text.delta" not in (await wire.next())["body"]:
        pass
    wire.leave()
    await asyncio.wait_for(wire.task, timeout=20)
    assert sari.portal.parts.relay._answers == {}
    return wire


# ---------------------------------------------------------------- what is refused


async def test_a_limit_is_told_in_words_with_the_body_of_the_gateway(sari):
    await accounts.set_limits(sari.portal.db, sari.account_id, overrides={LimitName.MONTHLY_TOKENS: 50})
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["quota"]["limit"]) == (429, "insufficient_quota", 50)
    page = await sari.browser.post("/playground", fields=form("Apa kabar?"))
    assert page.status_code == 422
    said_on_page = text_of(page)
    assert "429 insufficient_quota The monthly limit of the account or key is reached." in said_on_page
    assert "Try again? Not before resets_at." in said_on_page
    assert '"limit": 50' in said_on_page
    assert "Apa kabar?</textarea>" in page.text


async def test_every_code_of_the_api_has_words_on_the_page(sari):
    page = (await sari.browser.get("/playground")).text
    assert [code for code in ERRORS if f'data-code="{code}"' not in page] == []


async def test_the_first_code_on_the_page_asks_for_no_more_than_its_form(sari):
    page = text_of(await sari.browser.get("/playground"))
    assert '"max_output_tokens": 512' in page


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": "another"}, "This model is not offered."),
        ({"texts": [" "]}, "Write a message first."),
        ({"temperature": "warm"}, "The temperature is a number from 0 to 1."),
        ({"temperature": "1.5"}, "The temperature is a number from 0 to 1."),
        ({"max_output_tokens": "-1"}, "whole number of at least 1"),
        ({"roles": ["system"]}, "The messages cannot be read."),
        ({"roles": ["user"] * 17, "texts": ["x"] * 17}, "up to 16 messages"),
    ],
)
async def test_what_cannot_be_sent_is_refused_in_words_and_costs_nothing(sari, fields, told):
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?") | fields)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]
    page = await sari.browser.post("/playground", fields=form("Apa kabar?") | fields)
    assert (page.status_code, told in text_of(page)) == (422, True)
    assert await sari.entries() == []


async def test_a_gateway_that_is_away_is_told_as_that(gateway_db, gateways):
    portal = portal_at(gateway_db, f"http://127.0.0.1:{free_port()}", gateways)
    browser = await portal.browser(network=f"203.0.113.{uuid4().int % 250}").join(
        f"dewi.{uuid4().hex[:12]}@example.com"
    )
    answer = await browser.post("/playground/run", fields=form("Apa kabar?"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_away")
    page = await browser.post("/playground", fields=form("Apa kabar?"))
    assert "The portal cannot reach the gateway." in text_of(page)
    await portal.parts.relay.end()


async def test_no_more_requests_are_relayed_than_the_setting_says(gateway_db, gateway, gateways, people):
    portal = portal_at(gateway_db, gateway.url, gateways)
    portal.parts.relay._limits = portal_settings(NUSAGATE_PLAYGROUND_REQUESTS="1").limits
    email = f"sari.{uuid4().hex[:12]}@example.com"
    browser = await portal.browser(network=f"203.0.113.{uuid4().int % 250}").join(email)
    account_id = await portal.db.fetchval("SELECT account_id FROM person WHERE email = $1", email)
    people._accounts.append(account_id)
    sari = Player(portal, browser, account_id)
    wire = Wire(sari)
    await wire.start(form(PAUSE, stream="on"))
    await wire.next()
    answer = await browser.post("/playground/run", fields=form("Apa kabar?"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "playground_full")
    wire.leave()
    await wire.task
    await sari.settled()
    assert (await browser.post("/playground/run", fields=form("Apa kabar?"))).status_code == 200
    await portal.parts.relay.end()


# ---------------------------------------------------------------- the key


async def test_the_key_is_one_short_lived_line_of_the_list_and_never_in_the_browser(sari):
    texts = [
        (await sari.browser.get("/playground")).text,
        (await sari.browser.post("/playground/run", fields=form("Apa kabar?", stream="on"))).text,
        (await sari.browser.post("/playground", fields=form("Apa kabar?"))).text,
    ]
    found = await sari.keys()
    assert [key.scopes.name for key in found] == ["Playground"]
    assert found[0].scopes.endpoints == ("responses",)
    assert found[0].scopes.expires_at - SystemClock().now() <= timedelta(hours=2)
    text = await playground_key(sari.portal.parts, sari.account_id, refused_before=False)
    assert (text[:13], text[-4:]) == (found[0].prefix, found[0].last4)
    assert [page for page in texts if text in page] == []
    assert "Playground" in text_of(await sari.browser.get("/keys"))
    assert "changes every hour" in text_of(await sari.browser.get("/keys"))
    assert {entry["key_id"] for entry in await sari.settled()} == {found[0].key_id}


async def test_the_key_gets_another_text_in_the_same_line(sari):
    first = await playground_key(sari.portal.parts, sari.account_id, refused_before=False)
    again = await playground_key(sari.portal.parts, sari.account_id, refused_before=False)
    renewed = await playground_key(sari.portal.parts, sari.account_id, refused_before=True)
    assert first == again != renewed
    assert len(await sari.keys()) == 1
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    assert answer.status_code == 200


async def test_a_text_that_the_gateway_does_not_know_is_renewed_at_once(sari):
    await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    # As after a rotation of the session secret: the row's text is not the one that this portal computes.
    await sari.portal.db.execute(
        "UPDATE api_key SET digest = sha256(digest) WHERE account_id = $1", sari.account_id
    )
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    assert answer.status_code == 200
    assert len(await sari.keys()) == 1


async def test_a_revoked_key_stays_revoked_and_the_next_use_makes_another(sari):
    await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    first = (await sari.keys())[0]
    await sari.browser.post(f"/keys/{first.key_id}/revoke")
    answer = await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    assert answer.status_code == 200
    found = {key.key_id: key.status(SystemClock().now()) for key in await sari.keys()}
    assert found.pop(first.key_id) is KeyStatus.REVOKED
    assert list(found.values()) == [KeyStatus.ACTIVE]


async def test_the_playgrounds_key_is_no_first_key(sari):
    await sari.browser.post("/playground/run", fields=form("Apa kabar?"))
    assert "Make my first key" in text_of(await sari.browser.get("/start"))


# ---------------------------------------------------------------- the code

BODY = Ask(
    model=MODEL,
    turns=(Turn(Role.USER, 'It\'s "quoted" \\ and\nbroken $HOME'), Turn(Role.ASSISTANT, "é")),
    instructions="Don't.",
    temperature=0.2,
    max_output_tokens=64,
    stream=True,
).body


def test_the_command_line_sends_exactly_the_body():
    curl = code_of("https://api.example.com", BODY)[0].text
    words = shlex.split(curl)
    assert words[:3] == ["curl", "--no-buffer", "https://api.example.com/v1/responses"]
    assert json.loads(words[words.index("-d") + 1]) == BODY


def test_the_python_sends_exactly_the_body():
    for stream in (True, False):
        tree = ast.parse(code_of("https://api.example.com", BODY | {"stream": stream})[1].text)
        call = next(
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("responses.create")
        )
        sent = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        assert sent == BODY | {"stream": stream}


def test_the_javascript_sends_exactly_the_body():
    text = code_of("https://api.example.com", BODY)[2].text
    match = re.search(r"responses\.create\((\{.*?^\})\)", text, re.DOTALL | re.MULTILINE)
    assert json.loads(match[1]) == BODY
