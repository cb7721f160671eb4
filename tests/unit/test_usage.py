"""Usage blocks as upstreams really send them, and as they should never."""

import msgspec
import pytest

from gateway.metering.usage import MISSING, Flaw, read_chat_usage, read_responses_usage
from gateway.units import TOKENS_MAX, TokenCounts

NO_INPUT_DETAILS = {"cached_tokens": 0, "audio_tokens": 0}
NO_OUTPUT_DETAILS = {"reasoning_tokens": 0, "audio_tokens": 0}


def chat(**fields):
    return {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
        "prompt_tokens_details": NO_INPUT_DETAILS,
        "completion_tokens_details": NO_OUTPUT_DETAILS,
    } | fields


def read(block):
    return read_chat_usage(block, output_expected=True)


def test_chat_usage_is_divided_into_disjoint_classes():
    block = chat(
        prompt_tokens_details={"cached_tokens": 3, "audio_tokens": 2},
        completion_tokens_details={"reasoning_tokens": 8, "audio_tokens": 5, "accepted_prediction_tokens": 1},
        queue_time=0.5,
    )
    reading = read(block)
    assert reading.flaw is None
    assert reading.raw is block
    assert reading.counts == TokenCounts(
        input_text=5, input_cached=3, input_audio=2, output_text=7, output_reasoning=8, output_audio=5
    )


def test_responses_usage_is_divided_into_disjoint_classes():
    reading = read_responses_usage(
        {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 3, "text_tokens": 8, "audio_tokens": 2},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 8},
            "total_tokens": 30,
        }
    )
    assert reading.flaw is None
    assert reading.counts == TokenCounts(
        input_text=5, input_cached=3, input_audio=2, output_text=12, output_reasoning=8
    )


def test_explicit_zero_is_zero():
    reading = read({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    assert reading.counts == TokenCounts()
    assert reading.flaw is None


def test_embeddings_have_no_output_and_no_details():
    reading = read_chat_usage({"prompt_tokens": 10, "total_tokens": 10}, output_expected=False)
    assert reading.counts == TokenCounts(input_text=10)
    assert reading.flaw is None


def test_output_that_is_expected_and_absent_is_missing():
    assert read({"prompt_tokens": 10, "total_tokens": 10}).flaw is Flaw.MISSING


def test_output_that_is_not_expected_is_counted_all_the_same():
    reading = read_chat_usage(chat(), output_expected=False)
    assert reading.counts == TokenCounts(input_text=10, output_text=20)


@pytest.mark.parametrize(
    ("block", "flaw"),
    [
        (MISSING, Flaw.MISSING),
        (msgspec.UNSET, Flaw.MISSING),
        (None, Flaw.NULL),
        ([], Flaw.NOT_AN_OBJECT),
        ("12", Flaw.NOT_AN_OBJECT),
        (0, Flaw.NOT_AN_OBJECT),
        ({}, Flaw.MISSING),
    ],
)
def test_a_block_that_is_no_object_gives_no_counts(block, flaw):
    for reading in (read(block), read_responses_usage(block)):
        assert reading.counts is None
        assert reading.flaw is flaw
        assert reading.raw is block


NONSENSE = [
    (None, Flaw.NULL),
    (-1, Flaw.NEGATIVE),
    (-(2**63), Flaw.NEGATIVE),
    (1.5, Flaw.FRACTIONAL),
    (12.0, Flaw.FRACTIONAL),
    (float("nan"), Flaw.FRACTIONAL),
    ("12", Flaw.NOT_A_NUMBER),
    (True, Flaw.NOT_A_NUMBER),
    (False, Flaw.NOT_A_NUMBER),
    ([12], Flaw.NOT_A_NUMBER),
    (TOKENS_MAX + 1, Flaw.TOO_LARGE),
    (2**63, Flaw.TOO_LARGE),
]


@pytest.mark.parametrize(("value", "flaw"), NONSENSE)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_nonsense_count_is_missing_usage(name, value, flaw):
    reading = read(chat(**{name: value}))
    assert reading.counts is None
    assert reading.flaw is flaw


@pytest.mark.parametrize(("value", "flaw"), NONSENSE)
def test_a_nonsense_detail_is_zero_and_flagged(value, flaw):
    reading = read(chat(prompt_tokens_details={"cached_tokens": value, "audio_tokens": 4}))
    assert reading.counts == TokenCounts(input_text=6, input_audio=4, output_text=20)
    assert reading.flaw is flaw


def test_the_largest_count_is_a_count():
    counts = read(chat(prompt_tokens=TOKENS_MAX, total_tokens=TOKENS_MAX + 20)).counts
    assert counts == TokenCounts(input_text=TOKENS_MAX, output_text=20)


def test_a_wrong_total_is_flagged_and_the_parts_win():
    reading = read(chat(total_tokens=31))
    assert reading.counts == TokenCounts(input_text=10, output_text=20)
    assert reading.flaw is Flaw.INCONSISTENT


def test_an_absent_total_is_no_flaw():
    block = chat()
    del block["total_tokens"]
    assert read(block).flaw is None


@pytest.mark.parametrize("details", [MISSING, None])
def test_details_that_are_not_sent_leave_everything_text(details):
    block = chat(completion_tokens_details=details)
    assert read(block).counts == TokenCounts(input_text=10, output_text=20)
    assert read(block).flaw is Flaw.DETAILS_MISSING


def test_a_plain_block_is_counted_and_its_missing_details_are_noted():
    reading = read({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30})
    assert reading.counts == TokenCounts(input_text=10, output_text=20)
    assert reading.flaw is Flaw.DETAILS_MISSING


def test_details_that_are_no_object_are_flagged():
    assert read(chat(prompt_tokens_details=[1])).flaw is Flaw.NOT_AN_OBJECT


def test_a_graver_flaw_hides_missing_details():
    assert read(chat(prompt_tokens_details=None, total_tokens=1)).flaw is Flaw.INCONSISTENT


@pytest.mark.parametrize(
    ("cached", "audio", "counts"),
    [
        (8, 5, TokenCounts(input_cached=8, input_audio=2, output_text=20)),
        (11, 0, TokenCounts(input_cached=10, output_text=20)),
        (10, 10, TokenCounts(input_cached=10, output_text=20)),
        (0, 99, TokenCounts(input_audio=10, output_text=20)),
    ],
)
def test_details_above_the_total_are_cut_to_fit_it(cached, audio, counts):
    reading = read(chat(prompt_tokens_details={"cached_tokens": cached, "audio_tokens": audio}))
    assert reading.counts == counts
    assert reading.flaw is Flaw.INCONSISTENT
