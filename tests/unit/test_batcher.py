"""Natural batching: alone an item leaves at once, and what comes while it is on its way leaves together."""

import asyncio

import pytest

from gateway.errors import NusagateError
from gateway.runtime.batcher import Batcher, QueueFull


class Wire:
    """Something slow to hand batches to, which answers when the test says so."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self._answers: list[asyncio.Future[None]] = []

    async def flush(self, batch: list[int]) -> list[int]:
        self.sent.append(batch)
        answer = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        await answer
        return [item * 10 for item in batch]

    def answer(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self._answers[number].set_result(None)
        else:
            self._answers[number].set_exception(error)


def batcher(
    wire: Wire, *, flights: int = 3, max_batch: int = 100, is_poison: bool = False
) -> Batcher[int, int]:
    return Batcher(wire.flush, max_batch=max_batch, max_queue=1_000, is_poison=lambda _error: False)


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_items_of_one_moment_share_a_batch():
    wire = Wire()
    batches = batcher(wire)
    futures = [batches.submit(item) for item in (1, 2, 3)]
    await turns()
    wire.answer(0)
    assert await asyncio.gather(*futures) == [10, 20, 30]
    assert wire.sent == [[1, 2, 3]]


async def test_while_a_batch_is_on_its_way_the_next_one_gathers():
    wire = Wire()
    batches = batcher(wire)
    first = batches.submit(1)
    await turns()
    late = [batches.submit(item) for item in (2, 3)]
    await turns()
    assert wire.sent == [[1]]
    wire.answer(0)
    await turns()
    assert (await first, wire.sent) == (10, [[1], [2, 3]])
    wire.answer(1)
    assert await asyncio.gather(*late) == [20, 30]


async def test_a_batch_is_no_larger_than_allowed():
    wire = Wire()
    batches = batcher(wire, max_batch=2)
    for item in (1, 2, 3):
        batches.submit(item)
    await turns()
    wire.answer(0)
    await turns()
    assert wire.sent == [[1, 2], [3]]


async def test_an_error_of_the_wire_is_everybodys_error():
    wire = Wire()
    batches = batcher(wire)
    futures = [batches.submit(item) for item in (1, 2)]
    await turns()
    wire.answer(0, OSError("gone"))
    assert [type(error) for error in await asyncio.gather(*futures, return_exceptions=True)] == [OSError] * 2


async def test_one_bad_item_fails_nobody_else():
    async def flush(batch: list[int]) -> list[int]:
        if 2 in batch:
            raise ValueError("bad")
        return batch

    batches: Batcher[int, int] = Batcher(
        flush, max_batch=100, max_queue=100, is_poison=lambda error: isinstance(error, ValueError)
    )
    results = await asyncio.gather(*(batches.submit(item) for item in (1, 2, 3)), return_exceptions=True)
    assert [results[0], type(results[1]), results[2]] == [1, ValueError, 3]


async def test_who_waits_can_be_told_to_give_up_and_what_flies_lands_later():
    wire = Wire()
    batches = batcher(wire)
    flying = batches.submit(1)
    await turns()
    waiting = batches.submit(2)
    batches.fail_waiting(NusagateError())
    for future in (flying, waiting):
        with pytest.raises(NusagateError):
            await future
    wire.answer(0)
    await batches.close()
    assert wire.sent == [[1]]


async def test_a_full_queue_refuses():
    batches: Batcher[int, int] = Batcher(
        Wire().flush, max_batch=1, max_queue=1, is_poison=lambda _error: False
    )
    batches.submit(1)
    with pytest.raises(QueueFull):
        batches.submit(2)


async def test_closing_waits_for_all_that_was_submitted():
    wire = Wire()
    batches = batcher(wire, max_batch=1)
    futures = [batches.submit(item) for item in (1, 2)]
    closing = asyncio.create_task(batches.close())
    await turns()
    wire.answer(0)
    await turns()
    assert not closing.done()
    wire.answer(1)
    await closing
    assert [future.result() for future in futures] == [10, 20]
