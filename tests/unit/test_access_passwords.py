"""Which passwords are good enough, and how they are kept."""

import pytest

from admin.access.model import PasswordRefused
from admin.access.passwords import AT_ONCE_MAX, Hasher, check_password, common_passwords

SARI = "sari@example.com"


def refusal(password, *, second_factor=False, email=SARI):
    with pytest.raises(PasswordRefused) as caught:
        check_password(password, email=email, second_factor=second_factor)
    return caught.value


def test_a_few_words_are_a_password():
    assert check_password("kopi susu hangat", email=SARI, second_factor=False) == "kopi susu hangat"


def test_alone_it_has_fifteen_characters_and_beside_a_second_factor_eight():
    assert refusal("fourteen chars").values == {"shortest": 15}
    assert check_password("fifteen chars!!", email=SARI, second_factor=False)
    assert refusal("7 chars", second_factor=True).values == {"shortest": 8}
    assert check_password("8 chars!", email=SARI, second_factor=True)


def test_no_password_is_endless():
    assert refusal("word " * 41).values == {"longest": 200}


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "PasswordPassword",
        "passwordpassword123",
        "indonesiaindonesia",
        "correct horse battery staple",
        "aaaaaaaaaaaaaaaaaaaa",
        "abababababababababab",
        "qwertyuiopasdfghjkl!",
    ],
)
def test_what_is_tried_first_is_refused(password):
    assert refusal(password).template == "This password is easy to guess. Choose another one."


def test_the_address_is_no_password():
    assert refusal("sariwangi@sariwangi", email="sariwangi@example.com").param == "password"


def test_letters_are_compared_in_one_form():
    composed, apart = "caf\u00e9 caf\u00e9 caf\u00e9 x", "cafe\u0301 cafe\u0301 cafe\u0301 x"
    assert check_password(apart, email=SARI, second_factor=False) == composed


def test_the_list_has_only_passwords_that_a_second_factor_would_allow():
    assert all(len(password) >= 8 and password == password.lower() for password in common_passwords())


async def test_a_password_is_kept_as_argon2id_with_the_parameters_of_the_rule():
    kept = await Hasher().hash("kopi susu hangat sore")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_right_password_is_recognised_in_either_form_of_its_letters():
    hasher = Hasher()
    kept = await hasher.hash("caf\u00e9 au lait, s'il vous pla\u00eet")
    assert await hasher.verify("cafe\u0301 au lait, s'il vous plai\u0302t", kept)
    assert not await hasher.verify("cafe au lait, s'il vous plait", kept)


async def test_nobody_has_a_password():
    assert not await Hasher().verify("the password of nobody", None)


async def test_what_is_no_hash_is_nobodys_password():
    assert not await Hasher().verify("anything", "not a hash")


async def test_two_hashes_run_at_a_time():
    hasher = Hasher()
    assert hasher._at_once._value == AT_ONCE_MAX == 2
