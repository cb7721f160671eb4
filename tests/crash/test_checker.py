"""The judge convicts: each invariant's judge finds the one thing that is wrong in otherwise good evidence."""

from typing import Any

import pytest

from tests.fakes.checker import JUDGES, Evidence, Seen

REQUEST = "req_" + "a" * 32


def evidence(**wrong: Any) -> Evidence:
    """One request that went well, but for what is named."""
    line = {
        "request_id": REQUEST, "id": "chatcmpl-1", "ending": "complete", "delivered_tokens": 5, "usage": "sent",
        "input_tokens": 7, "output_tokens": 5,
    }  # fmt: skip
    entry = {
        "input_total": 7, "output_total": 5, "usage_source": "upstream", "end_reason": "completed", "end_user": "m-1",
    }  # fmt: skip
    seen = Seen(
        "m-1", "chat", True, "account", 5, request_id=REQUEST, answer_id="chatcmpl-1", status=200, complete=True,
        words=5, input_tokens=7, output_tokens=5, bytes_read=100,
    )  # fmt: skip
    for name, value in wrong.get("seen", {}).items():
        setattr(seen, name, value)
    return Evidence(
        journal=[{**line, **wrong.get("line", {})}] * wrong.get("lines", 1),
        seen=[seen],
        entries={REQUEST: [{**entry, **wrong.get("entry", {})}] * wrong.get("entries", 1)},
        intents={} if wrong.get("no_intent") else {REQUEST: {"state": "settled", "end_reason": "completed"}},
        limits={"account": 10},
        month_tokens={("account", "2026-11"): wrong.get("tokens", 10)},
    )


WRONG = {
    "I1 what was served has exactly one entry": {"entries": 0},
    "I2 the entry equals the upstream's usage": {"entry": {"output_total": 6}},
    "I3 a request goes upstream once": {"lines": 2},
    "I4 a complete answer has its final entry": {
        "entry": {"usage_source": "estimated", "end_reason": "gateway_crash"}
    },
    "I5 no account is above its limit": {"tokens": 11},
    "I7 nothing goes upstream that was not admitted": {"no_intent": True},
    "I8 no answer has bytes of another": {"seen": {"answer_id": "chatcmpl-2"}},
    "I10 every request ends": {"seen": {"hung": True}},
}


def test_every_judge_has_a_case():
    assert WRONG.keys() == JUDGES.keys()


def test_good_evidence_convicts_nobody():
    assert {name: judge(evidence()) for name, judge in JUDGES.items()} == {name: [] for name in JUDGES}


@pytest.mark.parametrize("invariant", WRONG)
def test_a_judge_finds_what_breaks_its_invariant(invariant):
    assert JUDGES[invariant](evidence(**WRONG[invariant]))


@pytest.mark.parametrize("wrong", [{"entries": 2}, {"entries": 0, "line": {"ending": "reset"}}])
def test_two_entries_and_an_unrecorded_reset_are_found(wrong):
    assert JUDGES["I1 what was served has exactly one entry"](evidence(**wrong))


@pytest.mark.parametrize(
    "seen", [{"echoed_user": "m-2"}, {"words": 6}, {"words": 4}, {"endpoint": "responses", "answer_id": "resp_" + "b" * 48}]
)  # fmt: skip
def test_foreign_bytes_are_found_wherever_they_are(seen):
    assert JUDGES["I8 no answer has bytes of another"](evidence(seen=seen))
