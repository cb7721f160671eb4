"""The bounds on a request: its size, its headers, its time, its depth, and that nothing in it can break the gateway."""

import gzip
import json
from contextlib import ExitStack

import pytest

from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask, bearer, body_of, connect, send, wire_bytes
from tests.plugins.gateway import MAIN_LIMITS

BODY_MAX = int(MAIN_LIMITS["NUSAGATE_MAX_BODY_BYTES"])
ALL = pytest.mark.parametrize("path", [RESPONSES, CHAT, EMBEDDINGS])


def read_answer(connection):
    """The status and the whole answer of a connection that the gateway closes, or that is asked to be closed."""
    answer = b""
    while piece := connection.recv(65_536):
        answer += piece
        head, end, body = answer.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and length and len(body) >= int(length[0].split(b":")[1]):
            break
    return int(answer.split(b" ", 2)[1]), answer


# ---------------------------------------------------------------- size


@ALL
async def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(http, sari, path):
    body = json.dumps(body_of(path, "Halo [[sim output=1]]")).encode()
    assert send(http, sari, path, body.ljust(BODY_MAX)).status == 200
    refused = send(http, sari, path, body.ljust(BODY_MAX + 1))
    assert (refused.status, refused.code) == (413, "request_too_large")


@ALL
async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(gateway, sari, path):
    head = wire_bytes(sari, path, b"", extra="").replace(b"content-length: 0", b"content-length: 9000000000")
    with connect(gateway.port) as connection:
        connection.sendall(head)
        status, answer = read_answer(connection)
    assert (status, b"request_too_large" in answer) == (413, True)


@ALL
async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(http, sari, path):
    def endless():
        for _ in range(1000):
            yield b" " * 10_000

    answer = http.post(path, content=endless(), headers=bearer(sari))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", [RESPONSES, CHAT, EMBEDDINGS, "/v1/models", "/v1/auth/key"])
async def test_headers_beyond_the_limit_are_refused(http, sari, path):
    method = "GET" if path in {"/v1/models", "/v1/auth/key"} else "POST"
    answer = http.request(method, path, headers={**bearer(sari), "x-padding": "x" * 40_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", [RESPONSES, "/v1/models"])
def test_headers_without_a_sensible_bound_close_the_connection(gateway, path):
    with connect(gateway.port) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n".encode())
        try:
            for _ in range(200):
                connection.sendall(b"x-padding: " + b"x" * 1000 + b"\r\n")
            status, _answer = read_answer(connection)
        except OSError:
            return
    assert 400 <= status < 500


# ---------------------------------------------------------------- time, coding, depth


async def test_a_body_that_does_not_come_is_given_up(gateway, sari, books):
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(gateway.port)) for _ in range(3)]
        for connection, path in zip(connections, (RESPONSES, CHAT, EMBEDDINGS), strict=True):
            whole = wire_bytes(sari, path, json.dumps(body_of(path, "Halo")).encode())
            connection.sendall(whole[:-5])
        for connection in connections:
            status, answer = read_answer(connection)
            assert (status, b"did not arrive" in answer) == (400, True)
    assert await books.requests_of(sari) == []


@ALL
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "gzip, identity"])
async def test_a_compressed_body_is_refused(http, sari, path, coding):
    body = gzip.compress(json.dumps(body_of(path, "Halo")).encode())
    answer = send(http, sari, path, body, headers={"content-encoding": coding})
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (
        400,
        "invalid_value",
        "content-encoding",
    )


@ALL
@pytest.mark.parametrize("depth", [65, 1000, 40_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
async def test_a_body_that_is_too_deep_is_refused(http, sari, path, depth, brackets):
    opening, closing = brackets
    body = f'{{"model": "nusantara-base", "metadata": {opening * depth}1{closing * depth}}}'.encode()
    answer = send(http, sari, path, body[:BODY_MAX])
    assert (answer.status, answer.code) == (400, "invalid_json")


# ---------------------------------------------------------------- whatever is in it

NO_DOCUMENTS = {
    "nothing": b"",
    "space": b"   ",
    "null": b"null",
    "an array": b"[]",
    "a text": b'"model"',
    "a number": b"17",
    "half": b'{"model": "nusantara-base", "inp',
    "two": b"{}{}",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "NaN": b'{"model": "nusantara-base", "temperature": NaN}',
    "a form": b"model=nusantara-base&input=Halo",
    "UTF-16": '{"model": "x"}'.encode("utf-16"),
}


@ALL
@pytest.mark.parametrize("what", NO_DOCUMENTS)
async def test_a_body_that_is_no_json_object_is_refused(http, sari, path, what):
    answer = send(http, sari, path, NO_DOCUMENTS[what])
    assert (answer.status, answer.code) == (400, "invalid_json")


ODD_TEXTS = {
    "NUL": "a\x00b",
    "controls": "".join(map(chr, range(1, 32))),
    "half a pair": "\ud800",
    "emoji": "\U0001f600" * 10,
    "right to left": "\u202e\u2066",
    "quotes": "\"'`;--\\",
    "markup": "<script>alert(1)</script>",
    "template": "{{7*7}}${7*7}%s%n",
    "line ends": "a\r\nb\u2028c",
}


@ALL
@pytest.mark.parametrize("what", ODD_TEXTS)
async def test_odd_text_is_passed_or_refused_and_never_breaks_anything(http, sari, path, what):
    odd = ODD_TEXTS[what]
    for field in ({"user": odd}, {"prompt": odd + " [[sim output=1]]"}, {"model": odd}):
        body = {**body_of(path, field.get("prompt", "Halo [[sim output=1]]")), **field}
        body.pop("prompt", None)
        answer = send(http, sari, path, json.dumps(body).encode())
        assert answer.status in {200, 400, 404}, (field, answer.body)


async def test_a_user_with_a_nul_character_is_refused_or_kept_in_a_way_that_can_be_read(http, sari, books):
    refused = ask(http, sari, RESPONSES, "Halo", user="sari\x00x")
    assert (refused.status, refused.json["error"]["param"]) == (400, "user")
    answer = ask(http, sari, CHAT, "Halo [[sim output=1]]", user="sari\x00x")
    assert (await books.entry(answer.label))["end_user"] == "sari\ufffdx"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_with_a_nul_character_is_kept_with_another_in_its_place(http, sari, stream):
    answer = ask(http, sari, RESPONSES, "a\x00b [[sim output=1]]", stream=stream)
    response = answer.events[-1]["response"] if stream else answer.json
    assert http.get(f"{RESPONSES}/{response['id']}", headers=bearer(sari)).json() == response
    (item,) = http.get(f"{RESPONSES}/{response['id']}/input_items", headers=bearer(sari)).json()["data"]
    assert item["content"][0]["text"] == "a\ufffdb [[sim output=1]]"
    assert (
        ask(http, sari, RESPONSES, "Lagi [[sim output=1]]", previous_response_id=response["id"]).status == 200
    )


ODD_MODELS = (
    "",
    " ",
    "../../etc/passwd",
    "nusantara-base ",
    "NUSANTARA-BASE",
    "nusantara-base\x00",
    "m" * 5000,
    "модель",
    7,
    [],
    {},
)


@ALL
@pytest.mark.parametrize("model", ODD_MODELS, ids=repr)
async def test_an_odd_model_name_is_refused_by_its_field(http, sari, path, model):
    answer = ask(http, sari, path, "Halo", model=model)
    assert answer.status in {400, 404}
    assert answer.json["error"]["param"] == "model"
    assert len(answer.body) < 1000


ODD_NUMBERS = (0, -1, 1.5, "7", True, 1e308, [], {})
NUMBER_FIELDS = {
    RESPONSES: ("max_output_tokens", "max_tokens"),
    CHAT: ("max_tokens", "max_completion_tokens", "n"),
}


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=repr)
@pytest.mark.parametrize("path", NUMBER_FIELDS)
async def test_an_odd_number_is_refused_by_its_field(http, sari, path, number):
    for field in NUMBER_FIELDS[path]:
        answer = ask(http, sari, path, "Halo", **{field: number})
        assert (answer.status, answer.json["error"]["param"]) == (400, field)


async def test_a_number_beyond_all_limits_means_what_the_model_can(http, sari):
    assert ask(http, sari, RESPONSES, "Halo", max_output_tokens=10**30).code == "invalid_value"
    assert ask(http, sari, CHAT, "Halo [[sim output=2]]", max_tokens=10**30).status == 200
    assert ask(http, sari, CHAT, "Halo", n=10**30).code == "invalid_value"


PATHS_WITH_IDS = ("/v1/responses/{}", "/v1/responses/{}/input_items", "/v1/models/{}")


@pytest.mark.parametrize("address", PATHS_WITH_IDS)
@pytest.mark.parametrize(
    "odd", ["%00", "a%00b", "%ff", "%F0%9F%98%80", "x" * 3000, "..%2f..", "%25", "'%20OR%201=1"]
)
async def test_an_odd_id_is_not_found(http, sari, address, odd):
    answer = http.get(address.format(odd), headers=bearer(sari))
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("odd", ["resp_\x00", "x" * 200, "'; DROP TABLE account", 5, ""])
async def test_an_odd_previous_response_is_refused_by_its_field(http, sari, odd):
    answer = ask(http, sari, RESPONSES, "Halo", previous_response_id=odd)
    assert answer.status in {400, 404}
    assert answer.json["error"]["param"] == "previous_response_id"


WRONG_QUERIES = {
    "/v1/usage": (
        "start=yesterday", "end=2020", "group_by=color", "start=2026-11-02&end=2026-11-01", "start=0001-01-01",
        "start=9999-12-31T23:59:59-14:00", "end=9999-12-31", "group=model", "start=2026-11-01T00:00:00%2B99:99",
        "start=%00", "start=2025-01-01&end=2026-11-01",
    ),
    "/v1/responses/{}/input_items": ("limit=0", "limit=101", "limit=-1", "limit=ten", "limit=%D9%A3", "order=up", "after=nobody"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "query"),
    [(address, query) for address, queries in WRONG_QUERIES.items() for query in queries],
)
async def test_a_wrong_query_is_refused_by_its_parameter(http, sari, address, query):
    made = ask(http, sari, RESPONSES, "Halo [[sim output=1]]").json["id"]
    answer = http.get(f"{address.format(made)}?{query}", headers=bearer(sari))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in {part.partition("=")[0] for part in query.split("&")} | {"end"}


async def test_a_query_says_nothing_to_an_endpoint_that_takes_a_body(http, sari):
    body = json.dumps(body_of(RESPONSES, "Halo [[sim output=1]]")).encode()
    answer = send(http, sari, f"{RESPONSES}?stream=true&model=dead&api_key=x", body)
    assert (answer.status, answer.json["model"]) == (200, "nusantara-base")
