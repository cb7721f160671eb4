"""What is said to Redis: names that stay in one slot of a cluster, scripts with versions, answers read as they are."""

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from redis.crc import key_slot

from gateway.ids import uuid7
from gateway.quota.model import AccountSnapshot, Counter, OpenHold, ReserveRequest
from gateway.quota.redis_scripts import (
    SCRIPTS,
    Decided,
    Rebuild,
    Wait,
    account_keys,
    forget_call,
    install_call,
    read_answer,
    release_call,
    reserve_call,
    settle_call,
)
from gateway.quota.redis_server import url_at

SARI = UUID("0198c0de-0000-7000-8000-000000000001")
REQUEST = ReserveRequest(
    request_id=UUID(int=7),
    account_id=SARI,
    key_id=UUID(int=8),
    model="nusantara-base",
    endpoint="/v1/responses",
    stream=False,
    plan_id="free",
    billable=False,
    currency="idr",
    input_tokens=10,
    output_tokens=20,
    output_min=16,
    choices=1,
    deadline_s=600,
    month_limit=2**60,
    concurrency=4,
)
SNAPSHOT = AccountSnapshot(
    account_id=SARI,
    fence=5,
    requests_tat_us=1,
    tokens_tat_us=2,
    counters=[
        Counter(subject_id=SARI, period="2026-11", used_tokens=3, held_tokens=4),
        Counter(subject_id=UUID(int=8), period="2026-11", used_tokens=5, held_tokens=6),
    ],
    holds=[
        OpenHold(
            request_id=UUID(int=7),
            key_id=UUID(int=8),
            period="2026-11",
            day="2026-11-23",
            granted_output=20,
            reserved_tokens=30,
            admitted_at=datetime(2026, 11, 23, microsecond=1, tzinfo=UTC),
            tokens_per_minute=None,
        )
    ],
)
CALLS = [
    reserve_call(REQUEST, None),
    settle_call(SARI, REQUEST.request_id, 12, None),
    release_call(SARI, REQUEST.request_id, 5),
    install_call(SNAPSHOT, b"nonce", None),
    forget_call(SARI, None),
]


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("redis://10.0.0.1:6379/0", "10.0.0.2", "redis://10.0.0.2:7001"),
        ("rediss://sari:p%40ss@cache.example:6379", "10.0.0.2", "rediss://sari:p%40ss@10.0.0.2:7001"),
        ("redis://:secret@[2001:db8::1]:6379/0?ssl_cert_reqs=none", "2001:db8::2",
         "redis://:secret@[2001:db8::2]:7001?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock", "10.0.0.2", "redis://10.0.0.2:7001"),
    ],
)  # fmt: skip
def test_another_server_of_a_cluster_is_reached_in_the_same_way(url, host, address):
    assert url_at(url, host, 7001) == address


def test_all_keys_of_an_account_are_in_one_slot_of_a_cluster():
    for _ in range(100):
        account_id = uuid7()
        assert len({key_slot(key) for key in account_keys(account_id)}) == 1


def test_accounts_are_spread_over_the_slots():
    assert len({key_slot(account_keys(uuid7())[0]) for _ in range(100)}) > 80


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.script)
def test_a_call_names_only_keys_of_its_account(call):
    assert set(call.keys) <= set(account_keys(SARI))
    assert len({key_slot(key) for key in call.keys}) == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_named_with_its_version_and_touches_only_keys_it_was_given(name):
    assert re.fullmatch(r"[a-z]+_v\d+", name)
    code = "\n".join(line.partition("--")[0] for line in SCRIPTS[name].splitlines())
    touched = re.findall(r"redis\.call\('[A-Z]+'(?:, (\w+))?", code)
    assert set(touched) <= {"state", "lock", "ended", ""}
    declared = re.search(r"local ([\w, ]+) = KEYS\[1\]", code) or re.search(
        r"local (state)\b.* = KEYS\[1\]", code
    )
    assert declared
    assert {word for word in touched if word} <= set(re.split(r", ", declared[1]))


def test_every_script_has_a_call():
    assert {call.script for call in CALLS} == set(SCRIPTS)


def test_a_limit_beyond_exact_numbers_is_none_and_no_limit_is_an_empty_argument():
    arguments = reserve_call(REQUEST, None).arguments
    assert arguments[6:12] == ("", "", "", "", "", 4)


def test_a_state_is_set_from_a_snapshot_in_the_form_that_the_scripts_read():
    key = UUID(int=8).hex
    assert install_call(SNAPSHOT, b"nonce", 99).arguments == (
        b"nonce", 5, 300_000, 99, 6,
        "requests_tat_us", 1, "tokens_tat_us", 2,
        "used:2026-11", 3, "held:2026-11", 4,
        f"used:{key}:2026-11", 5, f"held:{key}:2026-11", 6,
        UUID(int=7).hex, f"{key} 2026-11 2026-11-23 30 20 1795392000000001 0 0 0",
    )  # fmt: skip


def test_answers_are_read():
    assert read_answer([b"wait"]) == Wait()
    assert read_answer([b"rebuild", b"nonce"]) == Rebuild(b"nonce")
    answer = read_answer([b"decided", 5, b"", 20, 1_795_392_000_000_001, 1, 2, 3, 4, 0, -1, 0, 7, 8])
    assert isinstance(answer, Decided)
    assert answer.fence == 5
    assert answer.decision.refused_by is None
    assert answer.decision.admitted_at == datetime(2026, 11, 23, microsecond=1, tzinfo=UTC)
    assert answer.decision.requests_remaining is None
    assert answer.decision.tokens_remaining == 7
