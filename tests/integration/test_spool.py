"""Settlements survive a database that is away, and a gateway that dies meanwhile."""

import asyncio
import fcntl
import os
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from gateway.db.pool import DatabaseUnavailable, open_pool
from gateway.errors import ConfigurationError
from gateway.ids import uuid7
from gateway.ledger import store
from gateway.ledger.model import Charge, EndReason, Settlement, UsageSource
from gateway.ledger.service import Ledger
from gateway.ledger.spool import Spool, SpoolFailed
from gateway.metering.meter import Meter
from gateway.metering.sweeper import Sweeper
from gateway.prices.service import BookCache
from gateway.quota.model import ReserveRequest
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.units import TokenCounts


class AwayOrBack:
    """The health of a database that a test takes away and brings back."""

    def __init__(self) -> None:
        self.down = False
        self.on_down = []
        self.on_up = []


def spool_in(folder: Path) -> Spool:
    return Spool(folder, max_batch=100, max_queue=1000)


def asked(person) -> ReserveRequest:
    return ReserveRequest(
        request_id=uuid7(), account_id=person.account_id, key_id=person.key_id, model="nusantara-base",
        endpoint="responses", stream=False, plan_id="free", billable=False, currency="idr", input_tokens=10,
        output_tokens=20, output_min=16, choices=1, deadline_s=60, month_limit=10_000,
    )  # fmt: skip


def ended(request: ReserveRequest, output_tokens: int = 5) -> Settlement:
    return Settlement(
        request_id=request.request_id, account_id=request.account_id, entry_id=uuid4(), released=False,
        end_reason=EndReason.COMPLETED, upstream="u", duration_ms=1, input_text_tokens=10,
        output_text_tokens=output_tokens, amount_pico=10 * 300_000_000 + output_tokens * 1_500_000_000,
        usage_source=UsageSource.UPSTREAM, raw_usage={"input_tokens": 10}, replay_key="k", replay_body="a\0b",
    )  # fmt: skip


def released(request_id: UUID) -> Settlement:
    return Settlement(
        request_id=request_id, account_id=uuid7(), entry_id=uuid7(), released=True,
        end_reason=EndReason.UPSTREAM_ERROR, upstream=None, duration_ms=0,
    )  # fmt: skip


async def test_what_postgres_cannot_take_is_settled_once_when_it_is_back(seeded, sari, tmp_path):
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    health = AwayOrBack()
    ledger = Ledger(seeded, Limits(), health=health, spool=spool_in(tmp_path))
    health.down = True
    await ledger.settle(ended(request))
    assert await store.intent_states(seeded, [request.request_id]) == {request.request_id: "open"}
    assert await ledger.replay() == 0
    health.down = False
    assert await ledger.replay() == 1
    assert await ledger.replay() == 0
    assert await seeded.fetchval("SELECT sum(quota_tokens) FROM ledger_entry") == 15
    assert await seeded.fetchval("SELECT sum(held_tokens) FROM quota_counter") == 0


LOSES = """
CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = 'deadlock_detected'; END $$;
CREATE TRIGGER loses BEFORE UPDATE ON request_intent FOR EACH ROW EXECUTE FUNCTION loses();
"""


async def test_a_settlement_that_loses_every_deadlock_is_spooled_too(seeded, sari, tmp_path):
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    ledger = Ledger(seeded, Limits(), health=None, spool=spool_in(tmp_path))
    await seeded.execute(LOSES)
    try:
        await ledger.settle(ended(request))
    finally:
        await seeded.execute("DROP TRIGGER loses ON request_intent; DROP FUNCTION loses()")
    assert await ledger.replay() == 1
    assert await seeded.fetchval("SELECT sum(quota_tokens) FROM ledger_entry") == 15


async def test_the_exact_usage_of_a_request_that_was_swept_meanwhile_is_set_aside(seeded, sari, tmp_path):
    """A living gateway that is cut off for long looks dead to a sweeper that is not."""
    swept, again = asked(sari), asked(sari)
    quota = PostgresQuota(seeded, Limits(), clock=None)
    await asyncio.gather(quota.reserve(swept), quota.reserve(again))
    health = AwayOrBack()
    ledger = Ledger(seeded, Limits(), health=health, spool=spool_in(tmp_path))
    health.down = True
    await asyncio.gather(ledger.settle(ended(swept)), ledger.settle(ended(again)))
    # The answer to this commit was lost, and then it was spooled.
    await store.settle(seeded, [ended(again)])
    await seeded.execute(
        "UPDATE request_intent SET heartbeat_at = now() - interval '1 hour' WHERE state = 'open'"
    )
    sweeper = Sweeper(Limits(sweep_after_s=0))
    assert await sweeper.sweep(seeded) == 1
    health.down = False
    assert await ledger.replay() == 2
    [line] = (tmp_path / "refused").read_text().splitlines()
    kept = msgspec.json.decode(line, type=Settlement)
    assert (kept.request_id, kept.output_text_tokens) == (swept.request_id, 5)
    assert await ledger.replay() == 0
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry") == 2


async def test_the_first_request_under_a_price_book_needs_no_postgres_to_be_settled(
    seeded, database_url, sari, tmp_path
):
    """What its end costs was read when it was admitted; it is in the spool with its amount, not lost to an estimate."""
    pool, health = await open_pool(database_url, Limits(), application="tests"), AwayOrBack()
    ledger = Ledger(pool, Limits(), health=health, spool=spool_in(tmp_path))
    meter = Meter(pool, PostgresQuota(pool, Limits(), clock=None), ledger, BookCache())
    hold = await meter.admit(asked(sari))
    await pool.close()
    health.down = True
    charged = Charge(counts=TokenCounts(input_text=10, output_text=5), source=UsageSource.UPSTREAM)
    await hold.settle(EndReason.COMPLETED, charged, upstream="u", kept=None, replay=None)
    await ledger.close()
    back = Ledger(seeded, Limits(), health=None, spool=spool_in(tmp_path))
    assert await back.replay() == 1
    entry = await seeded.fetchrow("SELECT quota_tokens, amount_pico FROM ledger_entry")
    assert tuple(entry) == (15, 10 * 300_000_000 + 5 * 1_500_000_000)


async def test_the_spool_of_a_dead_process_is_replayed_by_another(seeded, sari, tmp_path):
    requests = [asked(sari) for _ in range(3)]
    quota = PostgresQuota(seeded, Limits(), clock=None)
    await asyncio.gather(*(quota.reserve(request) for request in requests))
    dead = spool_in(tmp_path)
    await asyncio.gather(*(dead.append(ended(request)) for request in requests))
    another = spool_in(tmp_path)
    assert await another.replay(lambda batch: store.settle(seeded, batch)) == 0, (
        "a living process holds its file"
    )
    await dead.close()
    assert await another.replay(lambda batch: store.settle(seeded, batch)) == 3
    assert await seeded.fetchval("SELECT count(*) FROM ledger_entry") == 3


async def test_a_file_that_another_takes_for_a_dead_ones_before_it_is_locked_is_not_written(
    tmp_path, monkeypatch
):
    """Whoever finds a file unlocked removes it when it is replayed; what was promised to be on disk must not go with it."""
    lock, seen = fcntl.flock, []

    async def settles(batch):
        seen.extend(batch)

    def lock_late(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not overtaken:
            overtaken.append(descriptor)
            assert asyncio.run(spool_in(tmp_path).replay(settles)) == 0
        lock(descriptor, operation)

    overtaken: list[int] = []
    spool, request = spool_in(tmp_path), uuid7()
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lock_late)
        await spool.append(released(request))
    await spool.close()
    assert await spool_in(tmp_path).replay(settles) == 1
    assert [settlement.request_id for settlement in seen] == [request]


async def test_a_file_is_kept_until_its_replay_is_committed(seeded, sari, tmp_path):
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    spool = spool_in(tmp_path)
    await spool.append(ended(request))

    async def fails(_batch):
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await spool.replay(fails)
    assert await spool.replay(lambda batch: store.settle(seeded, batch)) == 1


async def test_a_settlement_that_postgres_refuses_for_good_holds_up_no_other(seeded, sari, tmp_path):
    good, bad = asked(sari), asked(sari)
    quota = PostgresQuota(seeded, Limits(), clock=None)
    await asyncio.gather(quota.reserve(good), quota.reserve(bad))
    spool = spool_in(tmp_path)
    await spool.append(msgspec.structs.replace(ended(bad), input_text_tokens=-(10**9)))
    await spool.append(ended(good))
    assert await spool.replay(lambda batch: store.settle(seeded, batch)) == 2
    states = await store.intent_states(seeded, [good.request_id, bad.request_id])
    assert states == {good.request_id: "settled", bad.request_id: "open"}
    assert bad.request_id.hex in (tmp_path / "refused").read_text().replace("-", "")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="NUSAGATE_SPOOL_DIR"):
        spool_in(tmp_path / "file" / "spool")


async def test_a_torn_last_line_is_passed_over(seeded, sari, tmp_path):
    request = asked(sari)
    await PostgresQuota(seeded, Limits(), clock=None).reserve(request)
    spool = spool_in(tmp_path)
    await spool.append(ended(request))
    await spool.close()
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"request_id":"01')
    assert await spool.replay(lambda batch: store.settle(seeded, batch)) == 1
    assert not list(tmp_path.glob("*.jsonl"))


async def test_a_disk_that_cannot_be_written_is_an_error_and_the_gateway_refuses(
    seeded, sari, tmp_path, monkeypatch
):
    spool = spool_in(tmp_path)
    ledger = Ledger(seeded, Limits(), health=None, spool=spool)
    assert not ledger.refuses

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(SpoolFailed):
            await spool.append(ended(asked(sari)))
    assert ledger.refuses
    await ledger.replay()
    assert not ledger.refuses, "it recovers by itself when the disk can be written again"
