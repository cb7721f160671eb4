"""A server that came up once is never given up; one that never does is, soon."""

from gateway.runtime.respawn import DEATHS_MAX, PAUSE_MAX_S, PAUSE_MIN_S, YOUNG_S, Respawning

OLD_S = YOUNG_S + 1


def test_a_worker_is_replaced_after_a_pause_that_grows_while_young_ones_die():
    server = Respawning()
    pauses = [server.died(0.5) for _ in range(DEATHS_MAX - 1)]
    assert pauses[:5] == [PAUSE_MIN_S * 2**n for n in range(5)]
    assert set(pauses[5:]) == {PAUSE_MAX_S}


def test_a_server_none_of_whose_workers_ever_lived_is_given_up():
    server = Respawning()
    assert [server.died(0.5) for _ in range(DEATHS_MAX)][-1] is None


def test_a_server_that_came_up_is_never_given_up():
    server = Respawning()
    server.died(OLD_S)
    assert None not in [server.died(0.5) for _ in range(DEATHS_MAX * 5)]


def test_an_old_worker_that_dies_is_replaced_at_once_however_many_died_before():
    server = Respawning()
    for _ in range(DEATHS_MAX - 1):
        server.died(0.5)
    assert server.died(OLD_S) == PAUSE_MIN_S
