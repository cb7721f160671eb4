"""Who may call what: every route of the application with every kind of key, so that a new route fails until listed."""

import json
import re

import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus
from gateway.http.inference import ENDPOINTS
from gateway.http.routes import ROUTES
from gateway.keys import service as keys
from gateway.keys.model import Endpoint
from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask, bearer, body_of
from tests.plugins.gateway import CLOCK

PUBLIC = {
    "own": 200,
    "other": 200,
    "anonymous": 200,
    "garbage": 200,
    "revoked": 200,
    "expired": 200,
    "suspended": 200,
}


def private(*, own: int = 200, other: int = 200) -> dict[str, int]:
    """What a route answers that needs a key; ``other`` is another account that asks for Sari's things."""
    refused = dict.fromkeys(("anonymous", "garbage", "revoked", "expired"), 401)
    return {"own": own, "other": other, **refused, "suspended": 403}


EXPECTED = {
    ("POST", "/v1/responses"): private(),
    ("POST", "/v1/chat/completions"): private(),
    ("POST", "/v1/embeddings"): private(),
    ("GET", "/v1/models"): private(),
    ("GET", "/v1/models/{model_id:path}"): private(),
    ("GET", "/v1/auth/key"): private(),
    ("GET", "/v1/usage"): private(),
    ("GET", "/v1/responses/{response_id:str}"): private(other=404),
    ("GET", "/v1/responses/{response_id:str}/input_items"): private(other=404),
    ("POST", "/v1/responses/{response_id:str}/cancel"): private(own=400, other=404),
    ("DELETE", "/v1/responses/{response_id:str}"): private(other=404),
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
}
FRAMEWORK_ROUTES = {
    (method, path)
    for handler in ROUTES
    for path in handler.paths
    for method in handler.http_methods
    if method != "OPTIONS"
}


def test_every_route_of_the_application_is_listed_here():
    assert EXPECTED.keys() == ENDPOINTS.keys() | FRAMEWORK_ROUTES


@pytest.fixture
async def everybody(people):
    """The headers of each role; Sari comes last, because she may delete what the others ask for."""
    sari, budi = await people.join("sari"), await people.join("budi")
    revoked, expired = await people.another_key(sari), await people.another_key(sari)
    await keys.revoke_key(people.db, CLOCK, revoked.key_id, account_id=sari.account_id)
    await people.db.execute("UPDATE api_key SET expires_at = now() WHERE key_id = $1", expired.key_id)
    suspended = await people.join("citra")
    await accounts.set_status(people.db, suspended.account_id, AccountStatus.SUSPENDED)
    headers = {
        "anonymous": {},
        "garbage": {"authorization": f"Bearer {sari.api_key[:-1]}~"},
        "revoked": bearer(revoked),
        "expired": bearer(expired),
        "suspended": bearer(suspended),
        "other": bearer(budi),
        "own": bearer(sari),
    }
    return sari, headers


@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
async def test_a_route_answers_each_key_as_listed(http, everybody, method, path):
    sari, headers_of = everybody
    made = ask(http, sari, RESPONSES, "Halo [[sim output=1]]").json["id"]
    address = re.sub(r"\{model_id.*?\}", "nusantara-base", path)
    address = re.sub(r"\{response_id.*?\}", made, address)
    content = (
        json.dumps(body_of(path, "Halo [[sim output=1]]")) if path in (CHAT, EMBEDDINGS, RESPONSES) else None
    )
    answers = {
        role: http.request(method, address, content=content, headers=headers)
        for role, headers in headers_of.items()
    }
    assert {role: answer.status_code for role, answer in answers.items()} == EXPECTED[method, path]
    assert all(answer.headers["x-request-id"].startswith("req_") for answer in answers.values())


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/models", "/v1/auth/key"])
async def test_another_method_is_not_found_even_with_a_key(http, sari, method, path):
    answer = http.request(method, path, headers=bearer(sari))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


PATH_TRICKS = (
    "/v1/responses/",
    "//v1/responses",
    "/v1//responses",
    "/V1/RESPONSES",
    "/v1/responses/../models",
    "/v1/responses%2f..%2fmodels",
    "/v1/chat/completions/",
    "/v1/auth/key/../../responses",
    "/v1/models/%00",
    "/v1/responses;x=1",
)


@pytest.mark.parametrize("path", PATH_TRICKS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_spelling_of_a_path_opens_anything_without_a_key(http, method, path):
    assert http.request(method, path).status_code in {401, 404}


async def test_a_key_may_come_in_the_header_x_api_key(http, sari):
    assert http.get("/v1/auth/key", headers={"x-api-key": sari.api_key}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Basic c2FyaTo="},
        {"authorization": "Bearer x"},
        {"authorization": "Bearer"},
        {"authorization": "nsk_live_x"},
        {"x-api-key": ""},
        {"authorization": "Bearer nsk_live_\u00e9"},
        {"authorization": "Bearer " + "a" * 5000},
    ],
    ids=str,
)
def test_a_header_that_holds_no_key_is_refused(http, headers):
    answer = http.post(
        RESPONSES, json={}, headers={name: text.encode("latin-1") for name, text in headers.items()}
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in {"missing_api_key", "invalid_api_key"}


async def test_two_keys_in_two_headers_are_not_tried_one_after_the_other(http, sari):
    headers = {"authorization": "Bearer nsk_live_wrong", "x-api-key": sari.api_key}
    assert http.get("/v1/auth/key", headers=headers).status_code == 401


async def test_the_digest_of_a_key_is_no_key(http, sari, people):
    digest = await people.db.fetchval("SELECT digest FROM api_key WHERE key_id = $1", sari.key_id)
    for spelled in (digest.hex(), f"nsk_live_{digest.hex()}", f"sk-{digest.hex()}"):
        assert http.get("/v1/auth/key", headers={"x-api-key": spelled}).status_code == 401


async def test_models_are_listed_as_the_key_may_use_them(http, people):
    sari = await people.join("sari", models=("failover",))
    assert [model["id"] for model in http.get("/v1/models", headers=bearer(sari)).json()["data"]] == [
        "failover"
    ]
    assert http.get("/v1/models/nusantara-base", headers=bearer(sari)).status_code == 403


async def test_nobody_continues_the_conversation_of_another_account(http, sari, budi):
    made = ask(http, sari, RESPONSES, "Rahasia [[sim output=1]]").json["id"]
    answer = ask(http, budi, RESPONSES, "Lanjut [[sim output=1]]", previous_response_id=made)
    assert (answer.status, answer.code) == (404, "response_not_found")
    assert answer.json["error"]["param"] == "previous_response_id"


@pytest.mark.parametrize(("method", "path"), sorted(key for key in EXPECTED if "response_id" in key[1]))
async def test_a_key_that_may_not_use_responses_opens_none_that_another_key_made(
    http, sari, people, method, path
):
    made = ask(http, sari, RESPONSES, "Rahasia [[sim output=1]]").json["id"]
    narrow = await people.another_key(sari, endpoints=(Endpoint.EMBEDDINGS,))
    refused = http.request(method, path.replace("{response_id:str}", made), headers=bearer(narrow))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "endpoint_not_allowed")
    assert http.get(f"{RESPONSES}/{made}", headers=bearer(sari)).status_code == 200


async def test_usage_is_the_callers_own(http, sari, budi):
    ask(http, sari, RESPONSES, "Halo [[sim output=1]]")
    assert http.get("/v1/usage", headers=bearer(sari)).json()["requests"] == 1
    assert http.get("/v1/usage", headers=bearer(budi)).json()["requests"] == 0
