"""What a dead gateway left is ended, however long it has waited for a worker."""

import asyncio

from gateway.ledger import store
from gateway.metering.sweeper import Sweeper
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from tests.integration.test_spool import asked


async def test_a_request_that_was_forgotten_for_weeks_holds_up_no_other(seeded, sari):
    """Its age in milliseconds is beyond what the ledger's column takes: a backup of last month was restored."""
    old, young = asked(sari), asked(sari)
    quota = PostgresQuota(seeded, Limits(), clock=None)
    await asyncio.gather(quota.reserve(old), quota.reserve(young))
    await seeded.execute("UPDATE request_intent SET heartbeat_at = now() - interval '1 hour'")
    await seeded.execute(
        "UPDATE request_intent SET admitted_at = now() - interval '40 days' WHERE request_id = $1",
        old.request_id,
    )
    assert await Sweeper(Limits(sweep_after_s=0)).sweep(seeded) == 2
    states = await store.intent_states(seeded, [old.request_id, young.request_id])
    assert set(states.values()) == {"settled"}
    assert await seeded.fetchval("SELECT sum(held_tokens) FROM quota_counter") == 0
