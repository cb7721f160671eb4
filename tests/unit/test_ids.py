"""Identifiers: of the right version, in the order of time, never twice, and not shared by a fork."""

import multiprocessing
from uuid import RFC_4122

from gateway.ids import DRAW_BYTES, random_label, request_label, response_label, uuid7


def test_a_request_id_is_a_uuid_of_version_7():
    made = [uuid7() for _ in range(1_000)]
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    assert len(set(made)) == 1_000


def test_ids_sort_by_the_millisecond_they_were_made_in():
    made = [uuid7() for _ in range(1_000)]
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)


def test_every_random_bit_is_used():
    ones, zeros = 0, 0
    for _ in range(2_000):
        ones |= uuid7().int
        zeros |= ~uuid7().int
    random_bits = (1 << 80) - 1 - (0xF << 76 | 0b11 << 62)
    assert ones & zeros & random_bits == random_bits


def test_labels_have_their_prefix_and_their_length():
    request_id = uuid7()
    assert request_label(request_id) == f"req_{request_id.hex}"
    label = response_label(request_id)
    assert (label[:37], len(label)) == (f"resp_{request_id.hex}", 53)
    assert len(random_label("msg")) == 52


def test_no_label_is_made_twice():
    assert len({random_label("msg") for _ in range(DRAW_BYTES)}) == DRAW_BYTES


def _make(queue: "multiprocessing.Queue[list[str]]") -> None:
    queue.put([random_label("x") for _ in range(20)])


def test_a_forked_process_draws_its_own():
    random_label("x")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_make, args=(queue,))
    child.start()
    theirs = queue.get(timeout=20)
    child.join()
    ours = [random_label("x") for _ in range(20)]
    assert not set(theirs) & set(ours)
