"""Limits from the outside: what a refusal says, what an admission leaves, and how close to a limit one may come."""

import re
from datetime import UTC, datetime

import pytest

from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.clock import format_utc, month_end, month_of
from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask, bearer, body_of

MONTH, DAY = LimitName.MONTHLY_TOKENS, LimitName.DAILY_TOKENS
RPM, TPM, CONCURRENCY = LimitName.REQUESTS_PER_MINUTE, LimitName.TOKENS_PER_MINUTE, LimitName.CONCURRENCY
BOTH = pytest.mark.parametrize("path", [RESPONSES, CHAT])


def limit_of(path, tokens):
    return {"max_tokens" if path == CHAT else "max_output_tokens": tokens}


@pytest.fixture
async def bound_of(http, people, books):
    """What a prompt is reserved with at most, as the gateway itself computed it for somebody without limits."""
    citra = await people.join("citra")

    async def bound(path, prompt):
        label = ask(http, citra, path, prompt, **limit_of(path, 1)).label
        return await books.db.fetchval(
            "SELECT input_tokens FROM request_intent WHERE request_id = replace($1, 'req_', '')::uuid", label
        )

    return bound


# ---------------------------------------------------------------- the month


@BOTH
async def test_a_month_that_is_used_up_is_refused_with_its_whole_account(http, people, books, bound_of, path):
    sari = await people.join("sari", plan="free")
    spent = ask(http, sari, path, "Halo [[sim output=2 input_tokens=9980]]")
    refused = ask(http, sari, path, "Halo lagi")
    assert (spent.status, refused.status, refused.code) == (200, 429, "insufficient_quota")
    period = month_of(datetime.now(UTC))
    assert refused.json["error"]["quota"] == {
        "limit": 10_000,
        "used": 9982,
        "held": 0,
        "remaining": 18,
        "required": await bound_of(path, "Halo lagi") + 16,
        "resets_at": format_utc(month_end(period)),
        "period": period,
        "scope": "month",
    }
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert refused.headers["ratelimit-policy"] == '"month";q=10000;qu="tokens"'
    assert re.fullmatch(r'"month";r=18;t=\d+', refused.headers["ratelimit"])
    assert await books.state(refused.label) is None


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_an_admission_says_what_remains(http, people, path, stream):
    sari = await people.join("sari", plan="standard")
    answer = ask(http, sari, path, "Halo [[sim output=2]]", stream=stream, **limit_of(path, 30))
    told = {name: answer.headers[f"x-ratelimit-{name}"] for name in ("limit-requests", "limit-tokens")}
    assert told == {"limit-requests": "100", "limit-tokens": "40000"}
    assert int(answer.headers["x-ratelimit-remaining-requests"]) == 99
    assert 39_000 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 40_000
    assert re.fullmatch(r"(\d+m)?\d+s", answer.headers["x-ratelimit-reset-requests"])
    assert answer.headers["ratelimit-policy"] == '"month";q=400000;qu="tokens"'


async def test_who_has_no_limits_is_told_of_none(http, sari):
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=2]]")
    assert [name for name in answer.headers if "ratelimit" in name] == []


@BOTH
async def test_output_is_clamped_to_what_remains_and_the_limit_is_met_exactly(
    http, people, books, bound_of, path
):
    """The upstream itself is told the clamped limit, so it stops in time."""
    prompt = "Cerita panjang [[sim output=900]]"
    room = await bound_of(path, prompt) + 40
    sari = await people.join("sari", limits={MONTH: room})
    answer = ask(http, sari, path, prompt)
    entry = await books.entry(answer.label)
    assert (answer.status, entry["end_reason"], entry["output_text_tokens"]) == (200, "incomplete", 40)
    assert await books.used(sari) <= room


@BOTH
@pytest.mark.parametrize(("asked", "least"), [(None, 16), (1000, 16), (16, 16), (5, 5), (1, 1)])
async def test_less_than_sixteen_tokens_or_what_was_asked_for_are_not_worth_sending(
    http, people, bound_of, *, path, asked, least
):
    prompt = "Halo [[sim output=90]]"
    limit = {} if asked is None else limit_of(path, asked)
    bound = await bound_of(path, prompt)
    fitting = await people.join("sari", limits={MONTH: bound + least})
    missing_one = await people.join("budi", limits={MONTH: bound + least - 1})
    assert ask(http, fitting, path, prompt, **limit).status == 200
    refused = ask(http, missing_one, path, prompt, **limit)
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    quota = refused.json["error"]["quota"]
    assert (quota["required"], quota["remaining"]) == (bound + least, bound + least - 1)


@pytest.mark.parametrize("copies", [1, 3])
async def test_several_answers_share_what_remains(http, people, books, bound_of, copies):
    prompt = "Halo [[sim output=900]]"
    room = await bound_of(CHAT, prompt) + 100
    sari = await people.join("sari", limits={MONTH: room})
    answer = ask(http, sari, CHAT, prompt, n=copies)
    assert (await books.entry(answer.label))["output_text_tokens"] == 100 // copies * copies


async def test_a_model_that_writes_less_than_sixteen_tokens_can_be_used(http, people, books):
    for sari in (await people.join("sari"), await people.join("sari", plan="free")):
        answer = ask(http, sari, RESPONSES, "Halo [[sim output=90]]", model="tiny")
        assert (answer.status, (await books.entry(answer.label))["output_text_tokens"]) == (200, 8)


async def test_usage_beyond_the_limit_is_kept_and_what_remains_is_never_negative(http, people):
    sari = await people.join("sari", limits={MONTH: 3000})
    ask(http, sari, RESPONSES, "Halo [[sim output=2 input_tokens=5000]]")
    quota = ask(http, sari, RESPONSES, "Halo").json["error"]["quota"]
    assert (quota["used"], quota["remaining"]) == (5002, 0)


async def test_embeddings_count_against_the_month(http, people):
    sari = await people.join("sari", limits={MONTH: 50})
    assert ask(http, sari, EMBEDDINGS, "Halo").code == "insufficient_quota"


async def test_what_the_key_endpoint_says_is_what_the_ledger_says(http, people, books):
    sari = await people.join("sari", plan="free")
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=2]]")
    told = http.get("/v1/auth/key", headers=bearer(sari)).json()
    used = (await books.entry(answer.label))["quota_tokens"]
    assert told["tier"] == "free"
    monthly = told["usage_info"]["monthly"]
    assert (monthly["used"], monthly["limit"], monthly["remaining"]) == (used, 10_000, 10_000 - used)
    assert told["usage_info"]["daily"]["used"] == used
    assert http.get("/v1/usage", headers=bearer(sari)).json()["total_tokens"] == used


# ---------------------------------------------------------------- key, day, minute, at once


@BOTH
async def test_a_key_with_a_cap_stops_and_its_account_goes_on(http, people, path):
    sari = await people.join("sari", limits={MONTH: 100_000})
    capped = await people.another_key(sari, monthly_tokens=50)
    refused = ask(http, capped, path, "Halo")
    assert (refused.status, refused.code) == (429, "insufficient_quota")
    quota = refused.json["error"]["quota"]
    assert (quota["scope"], quota["limit"], quota["remaining"]) == ("key_month", 50, 50)
    assert refused.headers["x-should-retry"] == "false"
    assert ask(http, sari, path, "Halo [[sim output=1]]").status == 200


async def test_what_one_key_uses_is_not_counted_against_the_cap_of_another(http, people):
    sari = await people.join("sari")
    capped = await people.another_key(sari, monthly_tokens=300)
    ask(http, sari, RESPONSES, "Halo [[sim output=1 input_tokens=5000]]")
    assert ask(http, capped, RESPONSES, "Halo [[sim output=1]]").status == 200


SHORT_LIMITS = {
    DAY: ("tokens_per_day", 50),
    RPM: ("requests_per_minute", 1),
    TPM: ("tokens_per_minute", 200),
}


@BOTH
@pytest.mark.parametrize("limit", SHORT_LIMITS)
async def test_a_short_limit_is_refused_with_its_name_and_a_time_to_wait(http, people, path, limit):
    name, value = SHORT_LIMITS[limit]
    sari = await people.join("sari", limits={limit: value})
    answers = (ask(http, sari, path, "Halo [[sim output=60]]") for _ in range(9))
    refused = next(answer for answer in answers if answer.status != 200)
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.json["error"]["limit"] == name
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers


@BOTH
async def test_one_request_at_once_means_one(http, people, rude_upstream, path):
    sari = await people.join("sari", limits={CONCURRENCY: 1})
    body = body_of(path, "[[rude held]]", model="rude", stream=True)
    with http.stream("POST", path, json=body, headers=bearer(sari)) as first:
        refused = ask(http, sari, path, "Halo")
        rude_upstream.let_one_go()
        first.read()
    assert (refused.status, refused.json["error"]["limit"]) == (429, "concurrency")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert ask(http, sari, path, "Halo [[sim output=1]]").status == 200


async def test_minute_tokens_that_were_not_used_come_back(http, people):
    """Each of these reserves the whole minute and uses little of it."""
    sari = await people.join("sari", limits={TPM: 2000})
    answers = [ask(http, sari, RESPONSES, "Halo [[sim output=1]]") for _ in range(10)]
    assert [answer.status for answer in answers] == [200] * 10


async def test_a_refusal_counts_against_nothing(http, people, books):
    sari = await people.join("sari", limits={MONTH: 10, RPM: 1000})
    for _ in range(5):
        assert ask(http, sari, RESPONSES, "Halo").code == "insufficient_quota"
    remaining = ask(http, sari, RESPONSES, "Halo").headers["x-ratelimit-remaining-requests"]
    assert int(remaining) >= 1000
    assert await books.requests_of(sari) == []


async def test_a_limit_that_is_raised_is_in_force_within_a_second(http, people):
    sari = await people.join("sari", limits={MONTH: 10})
    assert ask(http, sari, RESPONSES, "Halo [[sim output=1]]").status == 429
    await accounts.set_limits(people.db, sari.account_id, overrides={MONTH: 10_000})
    assert any(ask(http, sari, RESPONSES, "Halo [[sim output=1]]").status == 200 for _ in range(200))


async def test_a_model_without_a_price_is_not_offered(http, sari):
    answer = ask(http, sari, RESPONSES, "Halo", model="unpriced")
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (404, "model_not_found", "model")
