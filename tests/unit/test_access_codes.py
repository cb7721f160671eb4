"""Codes of an authenticator app, recovery codes, derived secrets, and the names of mailboxes and networks."""

from datetime import UTC, datetime

import pytest

from admin.access.delays import ADDRESS, NETWORK
from admin.access.door import network_of
from admin.access.keyring import Keyring, Purpose, new_token, token_digest
from admin.access.mailboxes import check_host, mailbox_of
from admin.access.model import AddressRefused, TooSoon
from admin.access.totp import (
    RECOVERY_ALPHABET,
    code_at,
    enrolment_uri,
    matching_step,
    new_recovery_codes,
    plain_recovery_code,
    secret_text,
    step_of,
)

RFC_SECRET = b"12345678901234567890"
RFC_CODES = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
]


@pytest.mark.parametrize(("seconds", "code"), RFC_CODES)
def test_codes_are_those_of_rfc_6238(seconds, code):
    moment = datetime.fromtimestamp(seconds, UTC)
    assert code_at(RFC_SECRET, step_of(moment)) == code
    assert matching_step(RFC_SECRET, code, moment, after=0) == step_of(moment)


def test_a_clock_may_be_half_a_minute_off_and_not_more():
    now = datetime.fromtimestamp(3_000_000_000, UTC)
    step = step_of(now)
    accepted = [
        offset
        for offset in range(-3, 4)
        if matching_step(RFC_SECRET, code_at(RFC_SECRET, step + offset), now, after=0)
    ]
    assert accepted == [-1, 0, 1]


def test_no_code_counts_twice():
    now = datetime.fromtimestamp(3_000_000_000, UTC)
    code = code_at(RFC_SECRET, step_of(now))
    assert matching_step(RFC_SECRET, code, now, after=step_of(now)) is None


def test_a_code_may_be_typed_with_spaces():
    now = datetime.fromtimestamp(59, UTC)
    assert matching_step(RFC_SECRET, " 287 082 ", now, after=0) == step_of(now)


@pytest.mark.parametrize("typed", ["", "28708", "2870820", "abcdef", "\uff12\uff18\uff17\uff10\uff18\uff12"])
def test_what_is_no_code_is_refused(typed):
    assert matching_step(RFC_SECRET, typed, datetime.fromtimestamp(59, UTC), after=0) is None


def test_an_app_is_told_the_secret_and_whose_it_is():
    assert secret_text(RFC_SECRET) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
    assert enrolment_uri(RFC_SECRET, "sari@example.com") == (
        "otpauth://totp/Nusagate%3Asari%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Nusagate"
    )


def test_recovery_codes_differ_and_can_be_typed_in_any_case():
    codes = new_recovery_codes()
    assert len(set(codes)) == 10
    assert {len(plain_recovery_code(code)) for code in codes} == {10}
    assert plain_recovery_code(codes[0].upper().replace("-", " ")) == plain_recovery_code(codes[0])
    assert not set("il01o") & set(RECOVERY_ALPHABET)


def test_every_purpose_has_a_key_of_its_own():
    keyring = Keyring({1: b"a secret of some length"})
    assert len({keyring.digest(purpose, b"value") for purpose in Purpose}) == len(Purpose)


def test_a_form_token_is_good_after_a_rotation_and_for_its_own_browser_only():
    before, after = (
        Keyring({1: b"the first secret"}),
        Keyring({1: b"the first secret", 2: b"the second secret"}),
    )
    token = before.form_token("browser")
    assert after.is_form_token(token, "browser")
    assert after.form_token("browser") != token
    assert not after.is_form_token(token, "another browser")
    assert not Keyring({2: b"the second secret"}).is_form_token(token, "browser")


def test_a_form_token_that_is_not_ascii_is_refused():
    assert not Keyring({1: b"the first secret"}).is_form_token("ключ", "browser")


def test_tokens_have_256_bits_and_only_their_digest_is_kept():
    token = new_token()
    assert len(token) == 43
    assert len(token_digest(token)) == 32
    assert new_token() != token


@pytest.mark.parametrize(
    ("email", "mailbox"),
    [
        ("sari@example.com", "sari@example.com"),
        ("sari+1@example.com", "sari@example.com"),
        ("s.a.r.i+x@gmail.com", "sari@gmail.com"),
        ("sari@googlemail.com", "sari@gmail.com"),
        ("s.ari@example.com", "s.ari@example.com"),
    ],
)
def test_spellings_of_one_mailbox_are_one(email, mailbox):
    assert mailbox_of(email) == mailbox


@pytest.mark.parametrize("email", ["x@mailinator.com", "x@deep.mailinator.com", "x@localhost"])
def test_addresses_for_ten_minutes_are_refused(email):
    with pytest.raises(AddressRefused):
        check_host(email)


def test_addresses_that_only_end_alike_are_not_refused():
    check_host("x@notmailinator.com")
    check_host("sari@example.co.id")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", "unknown"),
    ],
)
def test_a_network_is_an_address_or_the_64_of_one_customer(address, network):
    assert network_of(address) == network


def test_waits_double_up_to_a_bound():
    assert [ADDRESS.wait_s(failures) for failures in (0, 4, 5, 6, 7, 8, 9, 10, 1000)] == [
        0,
        0,
        1,
        2,
        4,
        8,
        16,
        30,
        30,
    ]
    assert NETWORK.wait_s(29) == 0
    assert NETWORK.wait_s(1000) == 900


def test_a_wait_says_how_long_it_is():
    error = TooSoon(wait_s=8)
    assert (error.message, error.values) == ("Please wait 8 seconds, then try again.", {"wait_s": 8})
