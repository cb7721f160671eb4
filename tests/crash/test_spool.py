"""What the crash tests have found in the spool, each as a small test of its own."""

import asyncio
from uuid import UUID

import msgspec

from gateway.ledger.model import EndReason, Settlement
from gateway.ledger.spool import Spool

ROUNDS = 100
SETTLEMENT = Settlement(
    request_id=UUID(int=1),
    account_id=UUID(int=2),
    entry_id=UUID(int=3),
    released=False,
    end_reason=EndReason.COMPLETED,
    upstream="local",
    duration_ms=5,
    raw_usage={"total_tokens": 3},
    kept_id="resp_1",
    kept_days=30,
    kept_input=msgspec.Raw(b'[{"type":"message"}]'),
    kept_response=msgspec.Raw(b'{"id":"resp_1"}'),
)


async def replay(spool: Spool) -> list[Settlement]:
    settled: list[Settlement] = []

    async def settle(batch) -> None:
        settled.extend(batch)

    await spool.replay(settle)
    return settled


async def test_a_settlement_with_a_kept_answer_comes_back_from_the_spool_as_it_went(tmp_path):
    spool = Spool(tmp_path, max_batch=10, max_queue=10)
    await spool.append(SETTLEMENT)
    [read] = await replay(spool)
    assert msgspec.json.encode(read) == msgspec.json.encode(SETTLEMENT)


async def test_a_whole_line_that_cannot_be_read_is_set_aside_and_a_torn_one_is_dropped(tmp_path):
    line = msgspec.json.encode(SETTLEMENT)
    (tmp_path / "1-1.jsonl").write_bytes(b'{"strange":1}\n' + line + b"\n" + line[:40])
    assert len(await replay(Spool(tmp_path, max_batch=10, max_queue=10))) == 1
    assert (tmp_path / "refused").read_bytes() == b'{"strange":1}\n'
    assert not list(tmp_path.glob("*.jsonl"))


async def test_a_replay_that_comes_while_a_settlement_is_written_leaves_its_file_open(tmp_path):
    """Closed under its hand, the write would fail, or go into whatever was opened next under the same number."""
    spool = Spool(tmp_path, max_batch=1, max_queue=ROUNDS)
    settled: list[Settlement] = []

    async def settle(batch) -> None:
        settled.extend(batch)

    for _ in range(ROUNDS):
        writing = asyncio.gather(spool.append(SETTLEMENT), spool.append(SETTLEMENT))
        while not writing.done():
            await spool.replay(settle)
            await asyncio.sleep(0)
        await writing
    await spool.replay(settle)
    assert len(settled) == 2 * ROUNDS
