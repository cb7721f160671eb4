"""Whatever an upstream sends as usage, a reading holds what the meter relies on."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.usage import MISSING, Flaw, read_chat_usage, read_responses_usage
from gateway.units import TOKENS_MAX

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
tokens = st.integers(0, TOKENS_MAX)
any_count = st.one_of(tokens, st.integers(0, 50), json_values)


def details(first_name):
    fields = {first_name: any_count, "audio_tokens": any_count, "other": json_values}
    return st.one_of(json_values, st.fixed_dictionaries({}, optional=fields))


CHAT_FIELDS = {
    "total_tokens": any_count,
    "prompt_tokens_details": details("cached_tokens"),
    "completion_tokens_details": details("reasoning_tokens"),
}
hostile_blocks = st.one_of(
    st.just(MISSING),
    json_values,
    st.fixed_dictionaries(
        {}, optional={"prompt_tokens": any_count, "completion_tokens": any_count} | CHAT_FIELDS
    ),
)
sound_totals = st.fixed_dictionaries(
    {"prompt_tokens": tokens, "completion_tokens": tokens}, optional=CHAT_FIELDS
)


@given(hostile_blocks, st.booleans())
def test_a_reading_has_counts_or_a_flaw_and_no_class_is_negative(block, output_expected):
    reading = read_chat_usage(block, output_expected=output_expected)
    assert reading.raw is block
    if reading.counts is None:
        assert isinstance(reading.flaw, Flaw)
        assert reading.flaw is not Flaw.DETAILS_MISSING
    else:
        assert min(msgspec.structs.astuple(reading.counts)) >= 0


@given(sound_totals)
def test_totals_are_kept_to_the_token_whatever_the_details_say(block):
    counts = read_chat_usage(block, output_expected=True).counts
    assert counts is not None
    assert (counts.input_total, counts.output_total) == (block["prompt_tokens"], block["completion_tokens"])


@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=6))
def test_a_consistent_block_is_read_back_exactly(classes):
    text, cached, audio, output_text, reasoning, output_audio = classes
    reading = read_chat_usage(
        {
            "prompt_tokens": text + cached + audio,
            "completion_tokens": output_text + reasoning + output_audio,
            "total_tokens": sum(classes),
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": output_audio},
        },
        output_expected=True,
    )
    assert reading.flaw is None
    assert reading.counts is not None
    assert list(msgspec.structs.astuple(reading.counts)) == classes


@given(hostile_blocks)
def test_both_dialects_read_the_same_numbers_the_same_way(block):
    if not isinstance(block, dict):
        renamed = block
    else:
        renamed = {
            name.replace("prompt", "input").replace("completion", "output"): value
            for name, value in block.items()
        }
    chat = read_chat_usage(block, output_expected=True)
    responses = read_responses_usage(renamed)
    assert (chat.counts, chat.flaw) == (responses.counts, responses.flaw)
