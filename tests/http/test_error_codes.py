"""Every code of the error table is met by a real request, and looks as the contract says."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus, LimitName
from gateway.clock import monotonic_s
from gateway.http.error_table import ERRORS
from gateway.keys.model import Endpoint
from gateway.ledger import store
from gateway.ledger.model import EndReason, Settlement
from gateway.metering.sweeper import Sweeper
from gateway.runtime.settings import Limits
from tests.fakes.toxic import Mode, running_proxy
from tests.http.asking import CHAT, RESPONSES, Answer, ask, bearer, send
from tests.plugins.gateway import MAIN_LIMITS, Books, uuid_of

SENT_WITH_A_TIME = {429: range(1, 61), 503: range(1, 61)}
FRAGMENTS = (b"Traceback", b"gateway/", b".py", b"asyncpg", b"127.0.0.1", b"SELECT", b"Error(", b"simulat")


class Door(NamedTuple):
    """What a case may use: a plain client, its people, and what stands behind."""

    http: httpx2.Client
    people: Any
    stack: ExitStack


Case = Callable[[Door], Any]


async def wrong_model_request(door):
    return ask(door.http, await door.people.join("sari"), CHAT, "[[sim status=400]]")


async def no_json(door):
    return send(door.http, await door.people.join("sari"), RESPONSES, b'{"model": ')


async def no_model(door):
    return send(door.http, await door.people.join("sari"), RESPONSES, b'{"input": "Halo"}')


async def hot(door):
    return ask(door.http, await door.people.join("sari"), RESPONSES, "Halo", temperature=1.5)


async def unknown_field(door):
    return ask(door.http, await door.people.join("sari"), RESPONSES, "Halo", api_base="http://127.0.0.1:1")


async def no_key(door):
    return taken(door.http.post(RESPONSES, json={}))


async def wrong_key(door):
    return taken(door.http.post(RESPONSES, json={}, headers={"authorization": "Bearer nsk_live_nonsense"}))


async def old_key(door):
    sari = await door.people.join("sari")
    await door.people.db.execute(
        "UPDATE api_key SET expires_at = now() - interval '1 minute' WHERE key_id = $1", sari.key_id
    )
    return ask(door.http, sari, RESPONSES, "Halo")


async def unpaid(door):
    return ask(door.http, await with_status(door, AccountStatus.PAYMENT_REQUIRED), RESPONSES, "Halo")


async def suspended(door):
    return ask(door.http, await with_status(door, AccountStatus.SUSPENDED), RESPONSES, "Halo")


async def other_model(door):
    sari = await door.people.join("sari", models=("failover",))
    return ask(door.http, sari, RESPONSES, "Halo")


async def other_endpoint(door):
    sari = await door.people.join("sari", endpoints=(Endpoint.EMBEDDINGS,))
    return ask(door.http, sari, RESPONSES, "Halo")


async def other_address(door):
    sari = await door.people.join("sari", ip_ranges=("192.0.2.0/24",))
    return ask(door.http, sari, RESPONSES, "Halo")


async def unknown_model(door):
    return ask(door.http, await door.people.join("sari"), RESPONSES, "Halo", model="gpt-99")


async def unknown_response(door):
    sari = await door.people.join("sari")
    return taken(door.http.get(f"{RESPONSES}/resp_{'0' * 48}", headers=bearer(sari)))


async def unknown_path(door):
    return taken(door.http.get("/v1/fine-tunes"))


async def other_body(door):
    sari = await door.people.join("sari")
    once = {"idempotency-key": "once"}
    ask(door.http, sari, RESPONSES, "Halo [[sim output=1]]", headers=once)
    return ask(door.http, sari, RESPONSES, "Hello [[sim output=1]]", headers=once)


async def twice_at_once(door):
    sari = await door.people.join("sari")
    once = {"idempotency-key": "once"}
    body = {"model": "nusantara-base", "stream": True, "input": "Halo [[sim output=3 pace_ms=100]]"}
    headers = {**bearer(sari), **once}
    first = door.stack.enter_context(door.http.stream("POST", RESPONSES, json=body, headers=headers))
    second = send(door.http, sari, RESPONSES, json.dumps(body, separators=(",", ":")).encode(), headers=once)
    first.read()
    return second


async def too_large(door):
    size = int(MAIN_LIMITS["NUSAGATE_MAX_BODY_BYTES"])
    return ask(door.http, await door.people.join("sari"), RESPONSES, "x" * size)


async def too_often(door):
    sari = await door.people.join("sari", limits={LimitName.REQUESTS_PER_MINUTE: 0})
    return ask(door.http, sari, RESPONSES, "Halo")


async def too_much(door):
    sari = await door.people.join("sari", limits={LimitName.MONTHLY_TOKENS: 10})
    return ask(door.http, sari, RESPONSES, "Halo")


async def closed_by_another(door):
    """A request that somebody else released while it ran has no entry, so its answer is not shown."""
    sari = await door.people.join("sari")
    body = {"model": "nusantara-base", "input": "Halo [[sim output=1 delay_ms=300]]"}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(door.http.post, RESPONSES, json=body, headers=bearer(sari))
        label = await Books(door.people.db).first_of(sari)
        released = Settlement(
            request_id=uuid_of(label),
            account_id=sari.account_id,
            entry_id=uuid4(),
            released=True,
            end_reason=EndReason.GATEWAY_CRASH,
            upstream=None,
            duration_ms=0,
        )
        await store.settle(door.people.db, [released])
        return taken(asked.result())


async def failing_model(door):
    return ask(door.http, await door.people.join("sari"), RESPONSES, "[[sim status=500]]")


async def dead_model(door):
    return ask(door.http, await door.people.join("sari"), RESPONSES, "Halo", model="dead")


async def slow_model(door):
    return ask(
        door.http, await door.people.join("sari"), RESPONSES, "[[sim hang_after=0]]", model="impatient"
    )


def taken(answer: httpx2.Response) -> Answer:
    return Answer(answer.status_code, answer.headers, answer.content)


async def with_status(door, status):
    sari = await door.people.join("sari")
    await accounts.set_status(door.people.db, sari.account_id, status)
    return sari


CASES: dict[str, Case] = {
    "invalid_request_error": wrong_model_request,
    "invalid_json": no_json,
    "missing_required_parameter": no_model,
    "invalid_value": hot,
    "unknown_parameter": unknown_field,
    "missing_api_key": no_key,
    "invalid_api_key": wrong_key,
    "expired_api_key": old_key,
    "payment_required": unpaid,
    "account_suspended": suspended,
    "model_not_allowed": other_model,
    "endpoint_not_allowed": other_endpoint,
    "ip_not_allowed": other_address,
    "model_not_found": unknown_model,
    "response_not_found": unknown_response,
    "not_found": unknown_path,
    "idempotency_conflict": other_body,
    "request_in_progress": twice_at_once,
    "request_too_large": too_large,
    "rate_limit_exceeded": too_often,
    "insufficient_quota": too_much,
    "internal_error": closed_by_another,
    "upstream_error": failing_model,
    "upstream_unavailable": dead_model,
    "upstream_timeout": slow_model,
}
NEEDS_A_FAULT = frozenset({"limits_unavailable", "overloaded"})


@pytest.fixture
def door(http, people):
    with ExitStack() as stack:
        yield Door(http, people, stack)


def test_every_code_of_the_table_has_its_case():
    assert CASES.keys() | NEEDS_A_FAULT == ERRORS.keys()


@pytest.mark.parametrize("code", CASES)
async def test_a_code_is_met_with_its_status_and_shape(door, code):
    check(await CASES[code](door), code)


def check(answer: Answer, code: str) -> None:
    """The contract's shape, the table's status and type, and nothing of what is inside."""
    row = ERRORS[code]
    assert (answer.code, answer.status) == (code, row.status)
    error = answer.json["error"]
    assert error["type"] == row.type
    assert isinstance(error["message"], str)
    assert (
        {"message", "type", "param", "code"}
        <= error.keys()
        <= {"message", "type", "param", "code", "limit", "quota"}
    )
    assert answer.json["request_id"] == answer.label
    assert answer.label.startswith("req_")
    assert answer.headers["content-type"] == "application/json"
    assert [fragment for fragment in FRAGMENTS if fragment in answer.body] == []
    if row.status in SENT_WITH_A_TIME and code != "insufficient_quota":
        assert int(answer.headers["retry-after"]) in SENT_WITH_A_TIME[row.status]


# ---------------------------------------------------------------- codes that need a fault


@pytest.fixture(scope="module")
def database_proxy(gateway_database_url):
    folder = parse_qs(urlsplit(gateway_database_url).query)["host"][0]
    with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def frail_http(gateways, gateway_database_url, database_proxy):
    """A client of a gateway that serves one request at a time, with a database behind a proxy."""
    name = urlsplit(gateway_database_url).path
    url = f"postgresql://postgres@127.0.0.1:{database_proxy.port}{name}"
    with (
        gateways.running(database_url=url, NUSAGATE_MAX_REQUESTS_IN_FLIGHT="1") as frail,
        httpx2.Client(base_url=frail.url, timeout=30, verify=False) as client,
    ):
        yield client


def test_a_full_gateway_is_overloaded(frail_http, sari):
    body = {"model": "nusantara-base", "stream": True, "input": "Halo [[sim output=3 pace_ms=100]]"}
    with frail_http.stream("POST", RESPONSES, json=body, headers=bearer(sari)) as first:
        check(ask(frail_http, sari, CHAT, "Halo"), "overloaded")
        assert first.read().endswith(b"data: [DONE]\n\n")
    assert ask(frail_http, sari, CHAT, "Halo [[sim output=1]]").status == 200


@pytest.fixture
async def out_of_order(frail_http, database_proxy, gateway_db, sari):
    """Spoil the way to the database until the test is over and the gateway has recovered."""
    until_it_serves(lambda: ask(frail_http, sari, RESPONSES, "Halo [[sim output=1]]"))
    yield database_proxy.set
    database_proxy.set(Mode.PASS)
    until_it_serves(lambda: ask(frail_http, sari, RESPONSES, "Halo [[sim output=1]]"))
    # A reservation that was under way when the database froze may reach it after its release did: then it is the sweeper's.
    await Sweeper(Limits(sweep_after_s=0)).sweep(gateway_db)


@pytest.mark.parametrize("mode", [Mode.DOWN, Mode.HANG])
def test_a_database_that_is_away_or_frozen_closes_the_gate_and_opens_it_again(
    frail_http, out_of_order, sari, mode
):
    out_of_order(mode)
    for path in (RESPONSES, CHAT):
        check(ask(frail_http, sari, path, "Halo"), "limits_unavailable")
    assert frail_http.get("/readyz").status_code == 503
    assert frail_http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/usage", "/v1/auth/key", "/v1/models", f"/v1/responses/resp_{'0' * 48}"]
)
def test_without_a_database_the_other_routes_say_so_too(frail_http, out_of_order, sari, budi, path):
    out_of_order(Mode.HANG)
    check(ask(frail_http, sari, RESPONSES, "Halo"), "limits_unavailable")
    check(taken(frail_http.get(path, headers=bearer(budi))), "limits_unavailable")


@pytest.mark.parametrize("mode", [Mode.SLICE, Mode.LATENCY])
def test_a_database_that_is_slow_or_dribbles_serves_all_the_same(frail_http, out_of_order, sari, mode):
    out_of_order(mode)
    until_it_serves(lambda: ask(frail_http, sari, RESPONSES, "Halo [[sim output=1]]"))


def until_it_serves(again: Callable[[], Answer]) -> None:
    deadline_s = monotonic_s() + 10
    while (answer := again()).status != 200:
        assert answer.code == "limits_unavailable"
        assert monotonic_s() < deadline_s
