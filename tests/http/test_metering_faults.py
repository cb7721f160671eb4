"""How requests end when an upstream fails, what the client sees of it, and what it costs: nothing, or what was served."""

import asyncio
from typing import NamedTuple

import pytest

from gateway.metering.bounds import estimate_output_tokens
from tests.http.asking import CHAT, RESPONSES, ask
from tests.http.test_metering import WAYS

IMPATIENT = {"nusantara-base": "impatient", "nusantara-responses": "impatient-responses"}
RELEASED = "released"
ESTIMATED = "estimated"
JSON_WAYS = [way for way in WAYS if not WAYS[way][2]]
STREAM_WAYS = [way for way in WAYS if WAYS[way][2]]


class Outcome(NamedTuple):
    """What a fault comes to: the status, the error's code, the ending, and how it is charged."""

    status: int
    code: str
    ending: str
    charged: str


@pytest.fixture
def outcomes_of(http, sari, books):
    """Ask in several ways at once and sum up what came of each."""

    async def outcome(way, directive):
        path, model, stream = WAYS[way]
        model = IMPATIENT[model] if "hang" in directive else model
        prompt = f"Halo [[sim output=9 {directive}]]"
        answer = await asyncio.to_thread(ask, http, sari, path, prompt, model=model, stream=stream)
        entry = await books.closed(answer.label)
        ending = await books.ending(answer.label)
        if entry is not None:
            delivered = estimate_output_tokens(len(answer.text.encode()))
            assert entry["output_text_tokens"] == delivered > 0
            assert entry["end_reason"] == ending
        charged = RELEASED if entry is None else entry["usage_source"]
        return Outcome(answer.status, answer.code, ending, charged)

    async def all_outcomes(ways, directive):
        return dict(zip(ways, await asyncio.gather(*(outcome(way, directive) for way in ways)), strict=True))

    return all_outcomes


# ---------------------------------------------------------------- before the first token

REFUSED = dict.fromkeys((400, 413, 422), Outcome(400, "invalid_request_error", "upstream_error", RELEASED))
BROKEN = dict.fromkeys(
    (301, 302, 307, 401, 403, 404, 408, 429, 500, 502, 503, 529),
    Outcome(502, "upstream_error", "upstream_error", RELEASED),
)


@pytest.mark.parametrize("status", REFUSED | BROKEN)
async def test_an_error_status_of_the_model_costs_nothing(outcomes_of, status):
    assert await outcomes_of(WAYS, f"status={status}") == dict.fromkeys(WAYS, (REFUSED | BROKEN)[status])


NOTHING_SERVED_JSON = {
    "error_after=3": Outcome(502, "upstream_error", "upstream_error", RELEASED),
    "reset_after=0": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "reset_after=3": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "hang_after=0": Outcome(504, "upstream_timeout", "upstream_timeout", RELEASED),
    "hang_after=3": Outcome(504, "upstream_timeout", "upstream_timeout", RELEASED),
    "body=malformed": Outcome(502, "upstream_error", "upstream_error", RELEASED),
    "body=truncated": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "body=empty": Outcome(502, "upstream_error", "upstream_error", RELEASED),
    "body=gzip": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "big_line=1100000": Outcome(502, "upstream_error", "upstream_error", RELEASED),
}


@pytest.mark.parametrize("directive", NOTHING_SERVED_JSON)
async def test_a_whole_answer_that_cannot_be_read_costs_nothing(outcomes_of, directive):
    assert await outcomes_of(JSON_WAYS, directive) == dict.fromkeys(JSON_WAYS, NOTHING_SERVED_JSON[directive])


NOTHING_SERVED_STREAM = {
    "error_after=0": Outcome(200, "upstream_error", "upstream_error", RELEASED),
    "reset_after=0": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "body=empty": Outcome(200, "upstream_error", "upstream_reset", RELEASED),
    "body=malformed": Outcome(200, "upstream_error", "upstream_error", RELEASED),
    "body=gzip": Outcome(502, "upstream_error", "upstream_reset", RELEASED),
    "hang_after=0": Outcome(200, "upstream_timeout", "upstream_timeout", RELEASED),
    "big_line=300000": Outcome(200, "upstream_error", "upstream_error", RELEASED),
}


@pytest.mark.parametrize("directive", NOTHING_SERVED_STREAM)
async def test_a_stream_that_fails_before_its_first_token_costs_nothing(outcomes_of, directive):
    assert await outcomes_of(STREAM_WAYS, directive) == dict.fromkeys(
        STREAM_WAYS, NOTHING_SERVED_STREAM[directive]
    )


# ---------------------------------------------------------------- in the middle

CUT_SHORT = {
    "error_after=4": Outcome(200, "upstream_error", "upstream_error", ESTIMATED),
    "reset_after=4": Outcome(200, "upstream_error", "upstream_reset", ESTIMATED),
    "hang_after=4": Outcome(200, "upstream_timeout", "upstream_timeout", ESTIMATED),
    "reset_after=4 split_bytes=5 newline=crlf": Outcome(200, "upstream_error", "upstream_reset", ESTIMATED),
    "error_after=9": Outcome(200, "upstream_error", "upstream_error", ESTIMATED),
    "reset_after=9": Outcome(200, "upstream_error", "upstream_reset", ESTIMATED),
}


@pytest.mark.parametrize("directive", CUT_SHORT)
async def test_a_stream_that_breaks_off_costs_what_was_delivered(outcomes_of, directive):
    assert await outcomes_of(STREAM_WAYS, directive) == dict.fromkeys(STREAM_WAYS, CUT_SHORT[directive])


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_a_stream_whose_end_is_torn_off_is_charged_an_estimate(http, sari, books, way):
    path, model, stream = WAYS[way]
    answer = ask(http, sari, path, "Halo [[sim output=9 body=truncated]]", model=model, stream=stream)
    entry = await books.closed(answer.label)
    assert (entry["usage_source"], entry["output_text_tokens"]) == (
        ESTIMATED,
        estimate_output_tokens(len(answer.text.encode())),
    )


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_a_failed_stream_says_so_once_and_never_that_it_was_completed(http, sari, way):
    path, model, stream = WAYS[way]
    answer = ask(http, sari, path, "Halo [[sim output=9 reset_after=3]]", model=model, stream=stream)
    said = [event for event in answer.events if event.get("error") or event.get("type") == "response.failed"]
    assert said == answer.events[-1:]
    assert not any(event.get("type") == "response.completed" for event in answer.events)
    assert not any(choice["finish_reason"] for event in answer.events for choice in event.get("choices", ()))


@pytest.mark.parametrize("way", WAYS)
async def test_a_failed_request_leaves_nothing_behind_for_the_next_one(http, sari, books, way):
    path, model, stream = WAYS[way]
    ask(http, sari, path, "Halo [[sim output=9 reset_after=0]]", model=model, stream=stream)
    answer = ask(http, sari, path, "Halo [[sim output=2]]", model=model, stream=stream)
    assert (answer.status, answer.code) == (200, None)
    assert await books.used(sari) == (await books.entry(answer.label))["quota_tokens"]


# ---------------------------------------------------------------- other upstreams than the first


async def test_an_upstream_that_is_down_is_passed_over(http, sari, books, simulator):
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=2]]", model="failover")
    assert (await books.closed(answer.label))["upstream"] == "chat"
    assert simulator.line_of(answer.label)["ending"] == "complete"


async def test_a_request_that_reached_an_upstream_is_never_sent_to_another(http, sari, books, simulator):
    answer = ask(http, sari, RESPONSES, "Halo [[sim output=2 reset_after=0]]", model="failover")
    assert answer.status == 502
    assert await books.state(answer.label) == RELEASED


@pytest.mark.parametrize("path", [RESPONSES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_whose_upstreams_are_all_down_costs_nothing(http, sari, books, path, stream):
    answer = ask(http, sari, path, "Halo", model="dead", stream=stream)
    assert (answer.status, answer.code) == (503, "upstream_unavailable")
    assert await books.state(answer.label) == RELEASED
    assert await books.used(sari) == 0


@pytest.mark.parametrize(
    "manner", ["failing", "locked", "throttling", "elsewhere", "garbled", "short", "endless"]
)
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_rude_upstream_costs_nothing(http, sari, books, path, manner):
    answer = ask(http, sari, path, f"[[rude {manner}]]", model="rude")
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert await books.state(answer.label) == RELEASED


@pytest.mark.parametrize("manner", ["html", "polite"])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_an_answer_that_is_no_stream_where_one_was_asked_for_is_an_error(
    http, sari, books, path, manner
):
    answer = ask(http, sari, path, f"[[rude {manner}]]", model="rude", stream=True)
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert await books.state(answer.label) == RELEASED


# ---------------------------------------------------------------- in one piece


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_what_came_in_one_piece_with_an_error_is_delivered_before_it(http, sari, books, path):
    answer = await asyncio.to_thread(ask, http, sari, path, "[[rude breaking]]", model="rude", stream=True)
    assert (answer.text, answer.code) == ("Over there.", "upstream_error")
    if path == CHAT:
        assert answer.events[-1]["request_id"] == answer.label
    numbers = [event["sequence_number"] for event in answer.events if "sequence_number" in event]
    assert numbers == list(range(len(numbers)))
    entry = await books.closed(answer.label)
    assert entry["output_text_tokens"] == estimate_output_tokens(len(answer.text))


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_a_refusal_that_is_no_text_is_a_refusal(http, sari, books, path):
    answer = await asyncio.to_thread(ask, http, sari, path, "[[rude mumbling]]", model="rude")
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert await books.closed(answer.label) is None
    assert await books.ending(answer.label) == "upstream_error"
