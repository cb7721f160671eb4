"""One turn of the worker: freeze what is complete, then send everything that is due."""

from collections import Counter
from datetime import datetime

import msgspec

from billing.sync.model import BatchState
from billing.sync.sender import Progress, Sender
from billing.sync.service import freeze_due, prepare
from billing.sync.store import Frozen
from gateway.clock import Clock
from gateway.db.pool import Pool


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did: entries and batches frozen, and how the attempts of this run ended."""

    frozen_entries: int
    frozen_batches: int
    accepted: int
    waiting: int
    unproven: int
    dead: int
    circuit_open: bool


async def run(db: Pool, clock: Clock, sender: Sender, *, cutoff: datetime) -> SyncReport:
    """Freeze usage from before ``cutoff``, then send everything that is due."""
    frozen = await freeze_due(db, clock, cutoff)
    return await send_due(db, clock, sender, frozen)


async def send_due(
    db: Pool, clock: Clock, sender: Sender, frozen: Frozen, *, progress: Progress = lambda _: None
) -> SyncReport:
    """Send everything that is due; ``progress`` hears of every attempt."""
    await prepare(db, clock)
    tally: Counter[BatchState] = await sender.send_due(progress)
    return SyncReport(
        frozen_entries=frozen.entries,
        frozen_batches=frozen.batches,
        accepted=tally[BatchState.ACCEPTED],
        waiting=tally[BatchState.WAITING],
        unproven=tally[BatchState.UNPROVEN],
        dead=tally[BatchState.DEAD],
        circuit_open=sender.circuit.is_open(clock.now()),
    )
