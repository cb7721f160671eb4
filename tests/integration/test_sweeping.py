"""What a living gateway says of its requests, and what a dead one left is ended, however long it has waited for a worker."""

import asyncio

from gateway.ledger import store
from gateway.ledger.model import Heartbeat
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


async def test_a_sign_of_life_waits_for_no_settlement(seeded, sari):
    """A settlement locks its requests in an order of its own: with who waits for one and holds another it is in a deadlock."""
    alive, being_settled = asked(sari), asked(sari)
    quota = PostgresQuota(seeded, Limits(), clock=None)
    await asyncio.gather(quota.reserve(alive), quota.reserve(being_settled))
    beats = [Heartbeat(request.request_id, 7, "u") for request in (alive, being_settled)]
    async with seeded.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM request_intent WHERE request_id = $1 FOR UPDATE", being_settled.request_id
        )
        await store.heartbeat(seeded, beats)
    delivered = "SELECT delivered_bytes FROM request_intent WHERE request_id = $1"
    assert await seeded.fetchval(delivered, alive.request_id) == 7
    assert await seeded.fetchval(delivered, being_settled.request_id) == 0
    await store.heartbeat(seeded, beats)
    assert await seeded.fetchval(delivered, being_settled.request_id) == 7
