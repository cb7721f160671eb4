"""What is charged, whatever the upstream says of its usage: the ledger against the simulator's own journal."""

import pytest

from gateway.ledger.store import USERS_MAX
from gateway.metering.bounds import estimate_output_tokens
from tests.http.asking import CHAT, EMBEDDINGS, RESPONSES, ask

WAYS = {
    f"{path} {'stream' if stream else 'json'} over {model}": (path, model, stream)
    for path, model in (
        (RESPONSES, "nusantara-base"),
        (RESPONSES, "nusantara-responses"),
        (CHAT, "nusantara-base"),
    )
    for stream in (False, True)
}
STREAMED = {name: way for name, way in WAYS.items() if way[2]}
CLASSES = ("input_text", "input_cached", "input_audio", "output_text", "output_reasoning", "output_audio")


@pytest.fixture
def served(http, sari, books, simulator):
    """Ask in one of the ways; returns the answer, its entry, and the simulator's line of it."""

    async def serve(way, directive, **more):
        path, model, stream = WAYS[way]
        answer = ask(http, sari, path, f"Halo [[sim {directive}]]", model=model, stream=stream, **more)
        return answer, await books.closed(answer.label), simulator.line_of(answer.label)

    return serve


def tokens_of(entry):
    """The six classes of an entry's tokens, without those that are 0."""
    return {name: entry[f"{name}_tokens"] for name in CLASSES if entry[f"{name}_tokens"]}


def told_usage(answer):
    """(input, output) as the client was told, or ``None``."""
    told = answer.json if answer.headers["content-type"] == "application/json" else answer.events[-1]
    usage = told.get("response", told).get("usage")
    if usage is None:
        return None
    names = (
        ("prompt_tokens", "completion_tokens")
        if "prompt_tokens" in usage
        else ("input_tokens", "output_tokens")
    )
    return tuple(usage[name] for name in names)


# ---------------------------------------------------------------- what the usage block may say

TO_THE_TOKEN = {
    "exact": None,
    "wrong_total": "inconsistent",
}
NONSENSE = {
    "missing": {"missing"},
    "null": {"null", "missing"},
    "negative": {"negative"},
    "float": {"fractional"},
    "string": {"not_a_number"},
    "huge": {"too_large"},
    "partial": {"missing"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", TO_THE_TOKEN)
async def test_usable_usage_is_charged_to_the_token(served, way, kind):
    answer, entry, line = await served(way, f"output=6 input_tokens=41 usage={kind}")
    assert (answer.status, answer.code, len(answer.text.split())) == (200, None, 6)
    assert tokens_of(entry) == {"input_text": 41, "output_text": 6}
    assert (line["input_tokens"], line["output_tokens"]) == (41, 6)
    assert (entry["usage_source"], entry["usage_flaw"]) == ("upstream", TO_THE_TOKEN[kind])
    assert entry["end_reason"] == "completed"
    assert entry["quota_tokens"] == 47
    assert entry["amount_pico"] == 41 * 300_000_000 + 6 * 1_500_000_000


@pytest.mark.parametrize("way", WAYS)
async def test_an_explicit_zero_is_zero(served, way):
    answer, entry, _line = await served(way, "output=6 usage=zero")
    assert (answer.status, answer.code) == (200, None)
    assert (tokens_of(entry), entry["usage_source"], entry["usage_flaw"]) == ({}, "upstream", None)
    assert entry["amount_pico"] == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_is_missing_and_an_estimate_is_charged(served, way, kind):
    answer, entry, _line = await served(way, f"output=12 usage={kind}")
    assert (answer.status, answer.code, len(answer.text.split())) == (200, None, 12)
    assert entry["usage_source"] == "estimated"
    assert entry["usage_flaw"] in NONSENSE[kind]
    assert entry["end_reason"] == "completed"
    assert entry["output_text_tokens"] == estimate_output_tokens(len(answer.text.encode()))
    assert entry["input_text_tokens"] > 0


@pytest.mark.parametrize("way", WAYS)
async def test_an_estimate_is_never_above_the_reservation(served, books, way):
    _answer, entry, _line = await served(
        way, "output=16 usage=missing", **{"max_tokens" if WAYS[way][0] == CHAT else "max_output_tokens": 16}
    )
    reserved = await books.db.fetchval(
        "SELECT reserved_tokens FROM request_intent WHERE request_id = $1", entry["request_id"]
    )
    assert entry["quota_tokens"] <= reserved


@pytest.mark.parametrize("way", [way for way in WAYS if WAYS[way][0] == RESPONSES])
@pytest.mark.parametrize("kind", ["exact", "missing", "zero", "huge"])
async def test_the_client_of_a_response_is_told_what_it_is_charged(served, way, kind):
    answer, entry, _line = await served(way, f"output=12 usage={kind}")
    charged = tokens_of(entry)
    assert told_usage(answer) == (charged.get("input_text", 0), charged.get("output_text", 0))


@pytest.mark.parametrize("way", WAYS)
async def test_every_class_of_tokens_has_its_place(served, way):
    answer, entry, line = await served(way, "output=6 input_tokens=41 cached=30 audio=5 reasoning=2")
    assert tokens_of(entry) == {
        "input_text": 6,
        "input_cached": 30,
        "input_audio": 5,
        "output_text": 4,
        "output_reasoning": 2,
    }
    assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"] == 47
    if WAYS[way][0] == RESPONSES:
        usage = (answer.events[-1]["response"] if WAYS[way][2] else answer.json)["usage"]
        assert usage["input_tokens_details"] == {"cached_tokens": 30, "text_tokens": 36, "audio_tokens": 5}
        assert usage["output_tokens_details"]["reasoning_tokens"] == 2


@pytest.mark.parametrize("way", WAYS)
async def test_details_that_claim_more_than_the_total_are_cut_to_fit(served, way):
    _answer, entry, _line = await served(way, "output=6 input_tokens=41 cached=100 reasoning=50")
    assert tokens_of(entry) == {"input_cached": 41, "output_reasoning": 6}
    assert entry["usage_flaw"] == "inconsistent"


@pytest.mark.parametrize("stream", [False, True])
async def test_several_answers_to_one_chat_are_all_charged(http, sari, books, simulator, stream):
    answer = ask(http, sari, CHAT, "Halo [[sim output=7]]", n=3, stream=stream)
    line, entry = simulator.line_of(answer.label), await books.closed(answer.label)
    assert entry["output_text_tokens"] == line["output_tokens"] == 21


async def test_usage_above_the_reservation_is_recorded_in_full(served, books):
    answer, entry, _line = await served(
        "/v1/responses json over nusantara-base", "output=2 input_tokens=5000"
    )
    assert tokens_of(entry) == {"input_text": 5000, "output_text": 2}
    assert told_usage(answer) == (5000, 2)


async def test_embeddings_are_charged_on_input_alone(http, sari, books, simulator):
    answer = ask(http, sari, EMBEDDINGS, "Halo dunia")
    line, entry = simulator.line_of(answer.label), await books.closed(answer.label)
    assert tokens_of(entry) == {"input_text": line["input_tokens"]}
    assert (entry["usage_source"], entry["usage_flaw"]) == ("upstream", None)


async def test_the_end_user_is_on_the_entry_and_usage_is_grouped_by_it(http, sari, books):
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=3]]", user="pelanggan-7")
    entry = await books.closed(answer.label)
    assert entry["end_user"] == "pelanggan-7"
    headers = {"authorization": f"Bearer {sari.api_key}"}
    usage = http.get("/v1/usage", params={"group_by": "user"}, headers=headers).json()
    assert [(row["group"], row["total_tokens"]) for row in usage["data"]] == [
        ("pelanggan-7", entry["quota_tokens"])
    ]


async def test_usage_by_end_user_names_those_with_most_tokens_and_sums_to_all(http, sari, gateway_db):
    many = USERS_MAX + 5
    await gateway_db.execute(
        "INSERT INTO usage_user_daily SELECT $1, (now() AT TIME ZONE 'UTC')::date, 'visitor ' || n, 'idr', 1, n, 0, 0 "
        "FROM generate_series(1, $2::int) n",
        sari.account_id, many,
    )  # fmt: skip
    headers = {"authorization": f"Bearer {sari.api_key}"}
    usage = http.get("/v1/usage", params={"group_by": "user"}, headers=headers).json()
    assert len(usage["data"]) == USERS_MAX + 1
    assert (usage["data"][-1]["group"], usage["data"][-1]["total_tokens"]) == (None, 1 + 2 + 3 + 4 + 5)
    assert (usage["requests"], usage["total_tokens"]) == (many, many * (many + 1) // 2)


# ---------------------------------------------------------------- odd but honest upstreams

HARMLESS = (
    "chunk_tokens=4",
    "split_bytes=1",
    "split_bytes=7",
    "newline=crlf",
    "newline=cr",
    "newline=crlf split_bytes=3",
    "comments=1",
    "done=missing",
    "big_line=100000",
    "pace_ms=2 split_bytes=50 comments=1",
)


@pytest.mark.parametrize("directive", HARMLESS)
async def test_the_shape_of_a_stream_changes_neither_text_nor_charge(served, directive):
    for way in STREAMED:
        answer, entry, line = await served(way, f"output=8 {directive}")
        assert (answer.status, answer.code) == (200, None), way
        assert len(answer.text.split()) == 8, way
        assert entry["quota_tokens"] == line["input_tokens"] + line["output_tokens"], way
        assert (entry["usage_source"], entry["end_reason"]) == ("upstream", "completed"), way


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_cut_at_its_limit_is_incomplete_and_charged(served, way):
    limit = {"max_tokens" if WAYS[way][0] == CHAT else "max_output_tokens": 20}
    _answer, entry, line = await served(way, "output=90", **limit)
    assert (entry["end_reason"], entry["output_text_tokens"], line["output_tokens"]) == ("incomplete", 20, 20)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_of_no_tokens_is_an_answer(served, way):
    answer, entry, line = await served(way, "output=0")
    assert (answer.status, answer.code, answer.text) == (200, None, "")
    assert entry["quota_tokens"] == line["input_tokens"]


@pytest.mark.parametrize("way", WAYS)
async def test_the_entry_is_there_before_the_last_byte(http, sari, books, way):
    """No waiting here: what the client has seen the end of is in the ledger."""
    path, model, stream = WAYS[way]
    answer = ask(http, sari, path, "Halo [[sim output=3]]", model=model, stream=stream)
    assert await books.state(answer.label) == "settled"
