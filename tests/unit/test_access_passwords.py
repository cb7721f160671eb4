"""Which passwords are good enough, and how they are kept."""

import asyncio
import threading
import unicodedata
from types import SimpleNamespace

import pytest

from admin.access import passwords
from admin.access.model import PasswordRefused, TooBusy
from admin.access.passwords import (
    AT_ONCE_MAX,
    LENGTH_MAX,
    TYPED_MAX,
    WAITING_MAX,
    Hasher,
    check_password,
    common_passwords,
)

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


async def test_a_password_of_composed_characters_is_the_same_however_it_is_typed():
    typed = "e\u0301" * 60 + "kopi susu hangat sore" * 4
    assert len(typed) > LENGTH_MAX > len(unicodedata.normalize("NFKC", typed))
    kept = await Hasher().hash(check_password(typed, email=SARI, second_factor=False))
    assert await Hasher().verify(typed, kept)
    assert await Hasher().verify(unicodedata.normalize("NFC", typed), kept)


async def test_what_takes_long_to_normalise_is_not_normalised(monkeypatch):
    seen = []

    def note(form: str, text: str) -> str:
        seen.append(len(text))
        return unicodedata.normalize(form, text)

    monkeypatch.setattr(passwords, "unicodedata", SimpleNamespace(normalize=note))
    marks = "a" + "\u0315" * 15_000 + "\u0327" * 15_000
    with pytest.raises(PasswordRefused):
        check_password(marks, email=SARI, second_factor=False)
    assert not await Hasher().verify(marks, None)
    assert [length <= TYPED_MAX + 1 for length in seen] == [True, True]


async def test_nobody_enters_what_was_closed():
    assert not await Hasher().verify("the password of nobody", "")


class Meeting:
    """Stands in for argon2: a hash ends only when as many run at once as may, so that one at a time would never end."""

    def __init__(self) -> None:
        self._all_here = threading.Barrier(AT_ONCE_MAX, timeout=30)
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.threads: set[int] = set()

    def hash(self, password: str) -> str:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.threads.add(threading.get_ident())
        self._all_here.wait()
        with self._lock:
            self._inside -= 1
        # Nobody goes on before all have counted themselves out.
        self._all_here.wait()
        return password


async def test_exactly_two_hashes_run_at_a_time_and_never_in_the_loops_thread():
    hasher, meeting = Hasher(), Meeting()
    hasher._argon2 = meeting
    assert AT_ONCE_MAX == 2
    words = [str(number) for number in range(20)]
    assert await asyncio.gather(*(hasher.hash(word) for word in words)) == words
    assert meeting.most == AT_ONCE_MAX
    assert threading.get_ident() not in meeting.threads


async def test_whoever_would_wait_behind_too_many_is_told_to_come_back():
    hasher = Hasher()
    hasher._argon2 = Meeting()
    answers = await asyncio.gather(
        *(hasher.hash("word") for _ in range(WAITING_MAX + 3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [str] * WAITING_MAX + [TooBusy] * 3
    assert await asyncio.gather(hasher.hash("a"), hasher.hash("b")) == ["a", "b"]
