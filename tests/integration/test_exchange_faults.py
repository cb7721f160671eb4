"""A fault of ours at the end of an answer costs the client that end, and not us the record of what was served."""

import json

import pytest

from gateway.http.wire_errors import render_error
from gateway.ledger.model import EndReason, UsageSource
from gateway.ledger.service import Ledger
from gateway.metering.meter import Meter
from gateway.prices.service import BookCache
from gateway.proxy.chat import ChatWire
from gateway.proxy.chat_request import parse_chat_request
from gateway.proxy.exchange import Exchange, Transport
from gateway.quota.service import PostgresQuota
from gateway.runtime.settings import Limits
from gateway.upstream.catalogue import Model
from gateway.upstream.client import UpstreamClient
from tests.fakes.processes import running_simulator
from tests.integration.test_spool import asked
from tests.integration.test_upstream_client import upstream_at


class FaultyWire(ChatWire):
    """A wire that cannot write the end of an answer."""

    def close(self, charged, failure):
        if failure is None:
            raise ZeroDivisionError
        return super().close(charged, failure)


@pytest.fixture
def model(tmp_path):
    with running_simulator(tmp_path) as simulator:
        upstream = upstream_at(simulator.base_url)
        yield Model(
            id="nusantara-base",
            upstreams=(upstream,),
            upstream_model="nusantara-base",
            context_window=8192,
            max_output_tokens=4096,
            bytes_per_token_min=2.0,
            prompt_overhead_tokens=64,
        )


@pytest.mark.parametrize("stream", [True, False])
async def test_an_end_that_cannot_be_written_is_an_error_and_what_was_served_is_recorded(
    seeded, sari, model, stream
):
    limits, sent = Limits(), []
    meter = Meter(
        seeded,
        PostgresQuota(seeded, limits, clock=None),
        Ledger(seeded, limits, health=None, spool=None),
        BookCache(),
    )
    body = {
        "model": model.id,
        "stream": stream,
        "messages": [{"role": "user", "content": "Halo [[sim output=3]]"}],
    }
    request = parse_chat_request(json.dumps(body).encode(), max_depth=64, max_choices=8)
    client = UpstreamClient.create()

    async def send(message):
        sent.append(message.get("body", b""))

    try:
        hold = await meter.admit(asked(sari))
        await Exchange(
            Transport(client=client, limits=limits),
            hold,
            model,
            FaultyWire(request, model, granted_tokens=20),
            send=send,
            headers=(),
            request_id="req_1",
            fail=lambda error, headers: render_error(error, "req_1", headers),
            replay_key=None,
        ).run()
    finally:
        await client.close()
        await meter.close()
    assert b'"code":"internal_error"' in sent[-1]
    assert b"[DONE]" not in b"".join(sent)
    entry = await seeded.fetchrow("SELECT end_reason, usage_source, output_text_tokens FROM ledger_entry")
    assert tuple(entry) == (EndReason.COMPLETED, UsageSource.UPSTREAM, 3)
