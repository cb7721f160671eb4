"""How keys are written and recognised, what they may do, and how long the cache believes what it read."""

import re
import string
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from uuid import UUID, uuid4

import msgspec
import pytest

from gateway.accounts.model import AccountStatus
from gateway.errors import InvalidValue
from gateway.keys.cache import UNKNOWN, UNKNOWN_KEYS_MAX, KeyCache
from gateway.keys.listener import LEASE_S, PING_EVERY_S, PING_TIMEOUT_S
from gateway.keys.model import (
    AccountSuspended,
    Endpoint,
    EndpointNotAllowed,
    ExpiredApiKey,
    InvalidApiKey,
    IpNotAllowed,
    KeyRecord,
    KeyScopes,
    ModelNotAllowed,
    PaymentRequired,
    check_endpoint,
    check_ip,
    check_model,
    check_scopes,
    check_standing,
)
from gateway.keys.text import checksum, derive_key, digest_key, generate_key, parse_key, shown_prefix
from gateway.plans.model import AccountLimits, Billing, OnDisconnect
from gateway.runtime.settings import Limits
from gateway.units import Currency

NOW = datetime(2026, 11, 23, tzinfo=UTC)

RECORD = KeyRecord(
    key_id=UUID(int=1),
    name="laptop",
    prefix="nsk_live_AbCd",
    last4="WxYz",
    created_at=NOW,
    expires_at=None,
    monthly_tokens=None,
    models=None,
    endpoints=None,
    networks=None,
    account_id=UUID(int=2),
    account_status=AccountStatus.ACTIVE,
    currency=Currency.IDR,
    plan_id="free",
    billing=Billing.FREE,
    on_disconnect=OnDisconnect.DRAIN,
    limits=AccountLimits(),
)


def record(**changes):
    return msgspec.structs.replace(RECORD, **changes)


# ------------------------------------------------------------------ the text of a key


def test_a_key_has_its_prefix_its_body_and_its_checksum():
    assert re.fullmatch(r"nsk_live_[0-9A-Za-z]{38}", generate_key())


def test_no_two_keys_are_the_same():
    assert len({generate_key() for _ in range(1_000)}) == 1_000


def test_a_computed_key_follows_from_its_seed_and_is_a_key_like_any_other():
    texts = [derive_key(bytes([number]) * 32) for number in range(256)]
    assert texts == [derive_key(bytes([number]) * 32) for number in range(256)]
    assert len(set(texts)) == 256
    assert [parse_key(text) for text in texts] == [text.encode() for text in texts]


def test_a_key_is_recognised():
    text = generate_key()
    assert parse_key(text) == text.encode()


def test_the_checksum_is_the_crc32_in_base_62():
    # crc32(b"123456789") is 0xCBF43926, the check value of the algorithm.
    value, digits = 0xCBF43926, string.digits + string.ascii_uppercase + string.ascii_lowercase
    written = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        written = digits[digit] + written
    assert checksum(b"123456789") == written


@pytest.mark.parametrize("place", range(47))
def test_a_key_with_one_wrong_character_is_refused(place):
    text = generate_key()
    wrong = "x" if text[place] != "x" else "y"
    with pytest.raises(InvalidApiKey):
        parse_key(text[:place] + wrong + text[place + 1 :])


def test_what_is_no_key_is_refused():
    text = generate_key()
    forged = "nsk_live_" + "%" * 32 + checksum(b"%" * 32)
    for garbage in (
        "",
        "nsk_live_",
        "sk-1234",
        text[:-1],
        text + "0",
        " " + text[1:],
        "é" * 47,
        "\ud800" * 47,
        forged,
    ):
        with pytest.raises(InvalidApiKey):
            parse_key(garbage)


def test_what_is_stored_depends_on_the_pepper_and_is_no_key():
    text = generate_key().encode()
    stored = digest_key(text, b"one pepper of the two")
    assert len(stored) == 32
    assert stored == digest_key(text, b"one pepper of the two")
    assert stored != digest_key(text, b"the other of the two")


def test_a_key_is_known_by_its_first_characters():
    assert shown_prefix("nsk_live_AbCdEfGh") == "nsk_live_AbCd"


# ------------------------------------------------------------------ what a key may do


def test_a_key_expires_at_its_moment():
    until = record(expires_at=NOW)
    check_standing(until, NOW - timedelta(microseconds=1))
    with pytest.raises(ExpiredApiKey):
        check_standing(until, NOW)


@pytest.mark.parametrize(
    ("status", "error"),
    [(AccountStatus.SUSPENDED, AccountSuspended), (AccountStatus.PAYMENT_REQUIRED, PaymentRequired)],
)
def test_the_keys_of_an_account_that_may_not_be_served_do_not_work(status, error):
    with pytest.raises(error):
        check_standing(record(account_status=status), NOW)


def test_a_key_without_scopes_may_do_everything():
    for endpoint in Endpoint:
        check_endpoint(RECORD, endpoint)
    check_model(RECORD, "any-model")
    check_ip(RECORD, "not even an address")


def test_a_key_keeps_to_its_endpoints():
    narrow = record(endpoints=frozenset({"embeddings"}))
    check_endpoint(narrow, Endpoint.EMBEDDINGS)
    with pytest.raises(EndpointNotAllowed):
        check_endpoint(narrow, Endpoint.RESPONSES)


def test_a_key_keeps_to_its_models():
    narrow = record(models=frozenset({"nusantara-base"}))
    check_model(narrow, "nusantara-base")
    with pytest.raises(ModelNotAllowed):
        check_model(narrow, "nusantara-large")


@pytest.mark.parametrize("address", ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8::1"])
def test_a_key_works_from_its_addresses(address):
    check_ip(record(networks=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/64"))), address)


@pytest.mark.parametrize("address", ["203.0.114.1", "::1", "", "203.0.113", "unix"])
def test_a_key_works_from_nowhere_else(address):
    with pytest.raises(IpNotAllowed):
        check_ip(record(networks=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/64"))), address)


# ------------------------------------------------------------------ what a key may be made with


def test_address_ranges_are_written_in_full():
    assert check_scopes(KeyScopes(ip_ranges=("203.0.113.7", "2001:db8::/64")), NOW).ip_ranges == (
        "203.0.113.7/32",
        "2001:db8::/64",
    )


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (KeyScopes(name=""), r"\$\.name"),
        (KeyScopes(name="a" * 101), r"\$\.name"),
        (KeyScopes(name="clear\x1b[2J"), "printable"),
        (KeyScopes(monthly_tokens=-1), r"\$\.monthly_tokens"),
        (KeyScopes(models=()), r"\$\.models"),
        (KeyScopes(models=("a b",)), r"\$\.models"),
        (KeyScopes(endpoints=("images",)), r"images.*\$\.endpoints"),
        (KeyScopes(ip_ranges=("203.0.113.7/24",)), "host bits"),
        (KeyScopes(ip_ranges=("10.0.0.0/8",) * 101), r"\$\.ip_ranges"),
        (KeyScopes(expires_at=NOW), "future"),
    ],
)
def test_scopes_that_no_key_can_have_are_refused_by_name(scopes, said):
    with pytest.raises(InvalidValue, match=said):
        check_scopes(scopes, NOW)


# ------------------------------------------------------------------ the cache


def cache_of(**limits) -> KeyCache:
    cache = KeyCache(Limits(**limits))
    cache.lease(1_000.0)
    return cache


def put(cache, digest, found, now_s=0.0):
    cache.put(digest, found, now_s=now_s, epoch=cache.epoch)


def test_what_was_read_is_answered_until_its_time_is_over():
    cache = cache_of(key_cache_s=30)
    put(cache, b"a", RECORD)
    assert cache.get(b"a", 29.9) is RECORD
    assert cache.get(b"a", 30.0) is None


def test_without_a_lease_nothing_is_answered():
    cache = cache_of()
    put(cache, b"a", RECORD)
    cache.lease(5.0)
    assert cache.get(b"a", 4.9) is RECORD
    assert cache.get(b"a", 5.0) is None
    cache.lease(6.0)
    assert cache.get(b"a", 5.0) is RECORD


def test_an_unknown_key_is_remembered_briefly():
    cache = cache_of(unknown_key_cache_s=5)
    put(cache, b"a", None)
    assert cache.get(b"a", 4.9) is UNKNOWN
    assert cache.get(b"a", 5.0) is None


def test_a_key_that_was_unknown_is_known_once_it_was_read():
    cache = cache_of()
    put(cache, b"a", None)
    put(cache, b"a", RECORD)
    assert cache.get(b"a", 0.0) is RECORD


@pytest.mark.parametrize(
    "announcement", [f"api_key:{RECORD.key_id}", f"account:{RECORD.account_id}", f"plan:{RECORD.plan_id}"]
)
def test_a_change_drops_what_it_made_stale_and_nothing_else(announcement):
    cache = cache_of()
    other = record(key_id=uuid4(), account_id=uuid4(), plan_id="pro")
    put(cache, b"a", RECORD)
    put(cache, b"b", other)
    cache.forget(announcement)
    assert cache.get(b"a", 0.0) is None
    assert cache.get(b"b", 0.0) is other


def test_what_was_read_before_a_change_is_not_kept_after_it():
    cache = cache_of()
    epoch = cache.epoch
    cache.forget(f"api_key:{RECORD.key_id}")
    cache.put(b"a", RECORD, now_s=0.0, epoch=epoch)
    assert cache.get(b"a", 0.0) is None


def test_losing_the_line_empties_the_cache_and_closes_it():
    cache = cache_of()
    epoch = cache.epoch
    put(cache, b"a", RECORD)
    cache.clear()
    assert len(cache) == 0
    assert not cache.leased(0.0)
    cache.put(b"a", RECORD, now_s=0.0, epoch=epoch)
    assert len(cache) == 0


def test_the_cache_keeps_the_keys_that_are_used():
    cache = cache_of(key_cache_entries=2)
    put(cache, b"a", record(key_id=UUID(int=10)))
    put(cache, b"b", record(key_id=UUID(int=11)))
    assert cache.get(b"a", 0.0) is not None
    put(cache, b"c", record(key_id=UUID(int=12)))
    assert cache.get(b"b", 0.0) is None
    assert cache.get(b"a", 0.0) is not None


def test_unknown_keys_do_not_push_out_known_ones():
    cache = cache_of(key_cache_entries=2)
    put(cache, b"a", RECORD)
    for number in range(UNKNOWN_KEYS_MAX + 100):
        put(cache, number.to_bytes(4), None)
    assert len(cache) == UNKNOWN_KEYS_MAX + 1
    assert cache.get(b"a", 0.0) is RECORD


def test_a_full_cache_leaves_nothing_behind():
    cache = cache_of(key_cache_entries=3)
    for number in range(50):
        put(cache, number.to_bytes(4), record(key_id=UUID(int=number), account_id=UUID(int=number)))
    assert len(cache) == 3
    assert len(cache._affected) == 3 + 3 + 1


def test_a_dead_line_is_noticed_within_the_second_that_a_revoked_key_has():
    assert LEASE_S < 1
    assert PING_EVERY_S + PING_TIMEOUT_S < LEASE_S
