"""A Stripe that hangs holds up nobody: while usage of an account is being sent, its requests are served and settled."""

import asyncio
import contextlib
import random
from datetime import timedelta

import pytest

from billing.settings import StripeLimits, StripeSettings
from billing.stripe.client import Stripe
from billing.sync import service, worker
from billing.sync.sender import Sender
from gateway.clock import SystemClock, monotonic_s
from tests.fakes.processes import POLL_S
from tests.http.asking import RESPONSES, ask

pytestmark = pytest.mark.slow

CLOCK = SystemClock()
HANGS_S = 60
SENDING_WITHIN_S = 30


@pytest.fixture
async def hanging(sandbox, gateway_db):
    """A sender whose Stripe does not answer for longer than this test takes."""
    sandbox.reset(now=int(CLOCK.now().timestamp()))
    sandbox.faults({"kind": "delay", "path": "/v1/billing/meter_events", "wait_s": HANGS_S, "times": None})
    settings = StripeSettings(
        secret_key="sk_test_outage",
        webhook_secret="whsec_outage",
        api_base=sandbox.url,
        limits=StripeLimits(stripe_timeout_s=HANGS_S),
    )
    stripe = Stripe(settings)
    yield Sender(gateway_db, CLOCK, stripe, settings, dice=random.Random(1))
    await stripe.close()


async def is_being_sent(db, person):
    """Wait until a batch of somebody is on its way."""
    deadline_s = monotonic_s() + SENDING_WITHIN_S
    while not await db.fetchval(
        "SELECT count(*) FROM stripe_batch WHERE account_id = $1 AND state = 'sending'", person.account_id
    ):
        assert monotonic_s() < deadline_s, "nothing is being sent"
        await asyncio.sleep(POLL_S)


async def test_a_request_is_served_and_settled_while_stripe_hangs(hanging, gateway_db, people, books, http):
    sari = await people.join("sari")
    await gateway_db.execute(
        "INSERT INTO stripe_customer (account_id, customer_id, created_at, changed_at) VALUES ($1, 'cus_hang', now(), now())",
        sari.account_id,
    )
    before = await asyncio.to_thread(ask, http, sari, RESPONSES, "Halo")
    assert (await books.closed(before.label))["billable"]
    sending = asyncio.create_task(
        worker.run(gateway_db, CLOCK, hanging, cutoff=CLOCK.now() + timedelta(seconds=1))
    )
    try:
        await is_being_sent(gateway_db, sari)
        meanwhile = await asyncio.to_thread(ask, http, sari, RESPONSES, "Apa kabar?")
        assert meanwhile.status == 200
        assert (await books.closed(meanwhile.label))["billable"]
        assert not sending.done()
        frozen = await service.freeze_due(gateway_db, CLOCK, CLOCK.now() + timedelta(seconds=1))
        assert (frozen.entries, sending.done()) == (1, False)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
