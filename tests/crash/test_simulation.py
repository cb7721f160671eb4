"""The seeded simulation finds every bug that is planted in it, and none where none is."""

import pytest

from tests.crash.simulation import Bug, play, search

DEADLINE_S = 30


def test_the_protocol_breaks_nothing_in_ten_thousand_histories():
    found = search(20_261_123, bug=None, histories=10_000, deadline_s=120)
    assert found.what is None, found
    assert found.histories == 10_000


@pytest.mark.parametrize("bug", list(Bug))
def test_a_planted_bug_is_found_and_its_seed_repeats_it(bug):
    found = search(1, bug=bug, histories=1_000_000, deadline_s=DEADLINE_S)
    assert found.what is not None, f"{bug} was not found in {found.histories} histories"
    assert play(found.seed, bug) == found.what
    assert play(found.seed, None) is None
