"""What goes out to upstreams and back to clients: by allow-list both ways, and no words of anybody anywhere else."""

import json

import pytest

from tests.fakes.rude_upstream import SECRET_DETAIL, TELLING_HEADERS
from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask, bearer, body_of, send

BOTH = pytest.mark.parametrize("path", [RESPONSES, CHAT])
SENT_UPSTREAM = {
    "host",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "x-request-id",
    "user-agent",
}
NOSY = {
    "cookie": "session=sari",
    "forwarded": "for=192.0.2.1",
    "x-forwarded-for": "192.0.2.1",
    "x-forwarded-host": "evil.example",
    "x-api-base": "http://127.0.0.1:1",
    "openai-organization": "org-sari",
    "openai-project": "proj",
    "proxy-authorization": "Basic x",
    "x-request-id": "req_chosen_by_the_client",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "user-agent": "sari/1.0",
    "te": "trailers",
    "x-custom": "hello",
}
WORD = "rahasiadapur"


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_hears_nothing_of_the_client(http, sari, rude_upstream, path, stream):
    more = {"user": "sari", "safety_identifier": "s-1", "prompt_cache_key": "k-1", "stream": stream}
    answer = ask(http, sari, path, "[[rude polite]]", model="rude", headers=NOSY, **more)
    (seen,) = rude_upstream.asked_by(answer.label)
    assert seen.headers.keys() <= SENT_UPSTREAM
    assert seen.headers["user-agent"] == "nusagate"
    assert seen.headers["host"] == rude_upstream.base_url.split("/")[2]
    assert sari.api_key.encode() not in seen.body
    sent = json.loads(seen.body)
    assert sent.keys().isdisjoint(
        {"user", "safety_identifier", "prompt_cache_key", "metadata", "previous_response_id"}
    )
    assert sent.get("store", False) is False


@BOTH
@pytest.mark.parametrize("manner", ["polite", "failing", "locked", "throttling", "elsewhere"])
async def test_a_client_hears_nothing_of_the_upstream(http, sari, rude_upstream, path, manner):
    answer = ask(http, sari, path, f"[[rude {manner}]]", model="rude")
    assert answer.headers.keys().isdisjoint(TELLING_HEADERS.keys() - {"x-request-id", "server"})
    assert answer.label.startswith("req_")
    assert not any(value in answer.headers.values() for value in TELLING_HEADERS.values())
    assert not any(word in answer.body.decode() for word in SECRET_DETAIL.split() if len(word) > 6)
    assert len(rude_upstream.asked_by(answer.label)) == 1


@BOTH
async def test_the_clients_request_id_is_not_taken_over(http, sari, path):
    answer = ask(http, sari, path, "Halo [[sim output=1]]", headers=NOSY)
    assert answer.label != NOSY["x-request-id"]


@pytest.mark.parametrize(
    "name", ["api_base", "base_url", "api_key", "custom_llm_provider", "headers", "extra_headers", "proxy"]
)
@pytest.mark.parametrize("path", [RESPONSES, CHAT, EMBEDDINGS])
async def test_a_client_cannot_name_a_host(http, sari, path, name):
    body = {**body_of(path, "Halo"), name: "http://127.0.0.1:1"}
    answer = send(http, sari, path, json.dumps(body).encode())
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (400, "unknown_parameter", name)


@pytest.mark.parametrize(
    "address",
    ["/v1/models", "/v1/nothing", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/responses"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_answer_has_a_request_id_of_ours_and_no_two_are_the_same(http, address, method):
    labels = [http.request(method, address, headers=NOSY).headers["x-request-id"] for _ in range(2)]
    assert all(label.startswith("req_") and len(label) == 36 for label in labels)
    assert labels[0] != labels[1]


async def texts_in(db):
    """Every value of every table as text."""
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [
        await db.fetch(f'SELECT to_jsonb(t)::text AS line FROM "{table["tablename"]}" t') for table in tables
    ]
    return [row["line"] for table in rows for row in table]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_must_not_be_kept_is_nowhere(http, gateway, sari, people, stream):
    word = f"{WORD}{int(stream)}"
    prompt, more = f"{word} [[sim output=2]]", {"stream": stream, "metadata": {"note": word}}
    answers = [
        ask(http, sari, RESPONSES, prompt, store=False, instructions=word, **more),
        ask(http, sari, CHAT, prompt, stream=stream),
        ask(http, sari, EMBEDDINGS, prompt),
        ask(http, sari, RESPONSES, f"{word} [[sim status=500]]", **more),
        ask(http, sari, RESPONSES, f"{word} [[sim status=400]]", **more),
        ask(http, sari, RESPONSES, f"{word} [[sim output=9 reset_after=2]]", **more),
        ask(http, sari, RESPONSES, word, temperature=7),
        ask(http, sari, RESPONSES, word, model=word),
    ]
    assert [answer.status for answer in answers[:3]] == [200, 200, 200]
    assert [line for line in await texts_in(people.db) if word in line] == []
    assert word not in gateway.process.output
    assert word not in http.get("/metrics").text


async def test_a_response_that_was_not_kept_cannot_be_read_or_continued(http, sari):
    made = ask(http, sari, RESPONSES, "Halo [[sim output=1]]", store=False).json
    assert made["store"] is False
    assert http.get(f"{RESPONSES}/{made['id']}", headers=bearer(sari)).status_code == 404
    assert ask(http, sari, RESPONSES, "Lalu?", previous_response_id=made["id"]).status == 404


async def test_a_failed_response_is_not_kept(http, sari, people):
    ask(http, sari, RESPONSES, "Halo [[sim output=9 reset_after=3]]", stream=True)
    assert (
        await people.db.fetchval(
            "SELECT count(*) FROM stored_response WHERE account_id = $1", sari.account_id
        )
        == 0
    )


async def test_a_deleted_response_leaves_nothing(http, sari, people):
    made = ask(http, sari, RESPONSES, f"{WORD}9 [[sim output=1]]").json["id"]
    http.delete(f"{RESPONSES}/{made}", headers=bearer(sari))
    assert [line for line in await texts_in(people.db) if f"{WORD}9" in line] == []


async def test_no_key_is_in_a_log_a_metric_or_the_database(http, gateway, sari, people):
    ask(http, sari, RESPONSES, "Halo [[sim output=1]]")
    ask(http, sari, RESPONSES, "Halo [[sim status=500]]")
    secret = sari.api_key.removeprefix("nsk_live_")[4:-4]
    assert secret not in gateway.process.output
    assert secret not in http.get("/metrics").text
    assert [line for line in await texts_in(people.db) if secret in line] == []


async def test_the_deprecated_alias_is_answered_with_a_header(http, sari):
    old = ask(http, sari, RESPONSES, "Halo [[sim output=1]]", max_tokens=20)
    new = ask(http, sari, RESPONSES, "Halo [[sim output=1]]", max_output_tokens=20)
    assert (old.headers["deprecation"], old.json["max_output_tokens"]) == ("true", 20)
    assert "deprecation" not in new.headers
    both = ask(http, sari, RESPONSES, "Halo", max_tokens=20, max_output_tokens=21)
    assert (both.status, both.code) == (400, "invalid_value")
