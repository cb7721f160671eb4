"""``Idempotency-Key``: one answer and one charge, however often and however fast the same request comes."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.accounts.model import LimitName
from gateway.http import idempotency
from gateway.http.inference import ENDPOINTS
from gateway.ids import uuid7
from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask, bearer, body_of, connect, send, wire_bytes

ONCE = {"idempotency-key": "pesanan-42"}
ALL = pytest.mark.parametrize("path", [RESPONSES, CHAT, EMBEDDINGS])
BOTH = pytest.mark.parametrize("path", [RESPONSES, CHAT])


@ALL
async def test_a_repetition_gets_the_same_bytes_and_costs_nothing(http, sari, books, path):
    first = ask(http, sari, path, "Halo [[sim output=3]]", headers=ONCE)
    again = [ask(http, sari, path, "Halo [[sim output=3]]", headers=ONCE) for _ in range(3)]
    assert {answer.body for answer in again} == {first.body}
    assert {answer.status for answer in again} == {200}
    assert {answer.headers["content-type"] for answer in again} == {first.headers["content-type"]}
    assert await books.requests_of(sari) == [first.label]
    assert await books.used(sari) == (await books.entry(first.label))["quota_tokens"]


@ALL
async def test_the_same_key_with_another_body_is_a_conflict(http, sari, books, path):
    first = ask(http, sari, path, "Halo [[sim output=3]]", headers=ONCE)
    other = ask(http, sari, path, "Halo. [[sim output=3]]", headers=ONCE)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert await books.requests_of(sari) == [first.label]


async def test_the_same_key_at_another_endpoint_is_a_conflict(http, sari):
    body = json.dumps(body_of(RESPONSES, "Halo [[sim output=1]]")).encode()
    assert send(http, sari, RESPONSES, body, headers=ONCE).status == 200
    other = send(http, sari, EMBEDDINGS, body, headers=ONCE)
    assert (other.status, other.code) == (409, "idempotency_conflict")


@BOTH
async def test_a_repetition_in_the_meantime_is_refused(http, sari, books, path):
    body = json.dumps(body_of(path, "Halo [[sim output=3 pace_ms=60]]", stream=True)).encode()
    headers = {"content-type": "application/json", **bearer(sari), **ONCE}
    with http.stream("POST", path, content=body, headers=headers) as first:
        second = send(http, sari, path, body, headers=ONCE)
        first.read()
    assert (second.status, second.code) == (409, "request_in_progress")
    assert await books.requests_of(sari) == [first.headers["x-request-id"]]


@BOTH
async def test_ten_at_once_are_served_and_charged_once(http, sari, books, path):
    def one(_number):
        return ask(http, sari, path, "Halo [[sim output=3 delay_ms=50]]", headers=ONCE)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(one, range(10)))
    assert {answer.status for answer in answers} <= {200, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {"request_in_progress"}
    assert len({answer.body for answer in answers if answer.status == 200}) == 1
    assert len(await books.requests_of(sari)) == 1


@BOTH
async def test_a_stream_is_not_served_again(http, sari, books, path):
    first = ask(http, sari, path, "Halo [[sim output=3]]", stream=True, headers=ONCE)
    again = ask(http, sari, path, "Halo [[sim output=3]]", stream=True, headers=ONCE)
    assert first.is_ended
    assert (again.status, again.code) == (409, "idempotency_conflict")
    assert await books.requests_of(sari) == [first.label]


async def test_an_answer_that_must_not_be_kept_is_not_replayed(http, sari, books):
    first = ask(http, sari, RESPONSES, "Rahasia [[sim output=3]]", store=False, headers=ONCE)
    again = ask(http, sari, RESPONSES, "Rahasia [[sim output=3]]", store=False, headers=ONCE)
    assert first.status == 200
    assert (again.status, again.code) == (409, "idempotency_conflict")
    kept = await books.db.fetchval("SELECT body FROM idempotency_key WHERE account_id = $1", sari.account_id)
    assert kept is None


@BOTH
@pytest.mark.parametrize("fault", ["status=500", "status=400", "reset_after=0", "body=malformed"])
async def test_a_request_that_failed_may_be_tried_again(http, sari, books, path, fault):
    first = ask(http, sari, path, f"Halo [[sim {fault}]]", headers=ONCE)
    second = ask(http, sari, path, f"Halo [[sim {fault}]]", headers=ONCE)
    assert first.status == second.status != 409
    assert first.label != second.label
    assert await books.used(sari) == 0


async def test_a_request_that_was_refused_may_be_tried_again(http, people, books):
    sari = await people.join("sari", limits={LimitName.MONTHLY_TOKENS: 10})
    assert ask(http, sari, RESPONSES, "Halo", headers=ONCE).code == "insufficient_quota"
    assert ask(http, sari, RESPONSES, "Halo juga", headers=ONCE).code == "insufficient_quota"


async def test_a_request_that_was_wrong_may_be_put_right(http, sari):
    assert ask(http, sari, RESPONSES, "Halo", temperature=7, headers=ONCE).status == 400
    assert ask(http, sari, RESPONSES, "Halo [[sim output=1]]", headers=ONCE).status == 200


@BOTH
async def test_a_key_whose_gateway_died_before_the_request_was_admitted_is_free_after_five_minutes(
    http, sari, books, path
):
    body = json.dumps(body_of(path, "Halo [[sim output=1]]")).encode()
    other = uuid7()
    assert (
        await idempotency.claim(
            books.db, sari.account_id, "pesanan-42", other, endpoint=ENDPOINTS["POST", path][0], body=body
        )
        is None
    )
    assert send(http, sari, path, body, headers=ONCE).code == "request_in_progress"
    await books.db.execute(
        "UPDATE idempotency_key SET created_at = now() - interval '5 minutes 1 second' WHERE request_id = $1",
        other,
    )
    answer = send(http, sari, path, body, headers=ONCE)
    assert (answer.status, send(http, sari, path, body, headers=ONCE).body) == (200, answer.body)
    assert await books.requests_of(sari) == [answer.label]


async def test_an_answer_that_is_no_text_is_charged_as_any_other_and_not_replayed(http, sari, books):
    first = ask(http, sari, CHAT, "[[rude latin]]", model="rude", headers=ONCE)
    entry = await books.closed(first.label)
    assert (first.status, entry["usage_source"], entry["quota_tokens"]) == (200, "upstream", 6)
    again = ask(http, sari, CHAT, "[[rude latin]]", model="rude", headers=ONCE)
    assert (again.status, again.code) == (409, "idempotency_conflict")


async def test_a_broken_stream_that_was_charged_is_not_served_again(http, sari, books):
    first = ask(http, sari, CHAT, "Halo [[sim output=9 reset_after=4]]", stream=True, headers=ONCE)
    again = ask(http, sari, CHAT, "Halo [[sim output=9 reset_after=4]]", stream=True, headers=ONCE)
    assert first.code == "upstream_error"
    assert (again.status, again.code) == (409, "idempotency_conflict")
    assert await books.requests_of(sari) == [first.label]


async def test_the_answer_of_a_client_that_left_is_waiting_for_it(http, gateway, people, books):
    sari = await people.join("sari", plan="free")
    body = json.dumps(body_of(RESPONSES, "Halo [[sim output=3 delay_ms=100]]")).encode()
    with connect(gateway.port) as connection:
        connection.sendall(wire_bytes(sari, RESPONSES, body, extra="idempotency-key: pesanan-42\r\n"))
        label = await books.first_of(sari)
    await books.closed(label)
    again = send(http, sari, RESPONSES, body, headers=ONCE)
    assert (again.status, again.json["status"]) == (200, "completed")
    assert await books.requests_of(sari) == [label]


async def test_two_accounts_may_use_the_same_key(http, sari, budi):
    mine = ask(http, sari, RESPONSES, "Halo [[sim output=1]]", headers=ONCE)
    yours = ask(http, budi, RESPONSES, "Halo [[sim output=1]]", headers=ONCE)
    assert (mine.status, yours.status) == (200, 200)
    assert mine.json["id"] != yours.json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside", "caf\u00e9\u0085"])
async def test_a_key_that_is_none_is_refused_by_name(http, sari, key):
    headers = {"content-type": "application/json", **bearer(sari), "idempotency-key": key.encode("latin-1")}
    answer = http.post(RESPONSES, json=body_of(RESPONSES, "Halo [[sim output=1]]"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "idempotency-key")
