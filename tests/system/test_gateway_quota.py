"""A thousand requests at once of one free account, over four workers, never pass its limit."""

import asyncio
import json
from collections import Counter

import pytest

from gateway.accounts.model import LimitName
from gateway.ledger.service import verify
from tests.http.asking import CHAT, RESPONSES, body_of, wire_bytes

REQUESTS = 1_000
MONTHLY = 10_000
AT_ONCE = dict.fromkeys((LimitName.REQUESTS_PER_MINUTE, LimitName.CONCURRENCY))


@pytest.fixture(scope="module")
def wide_gateway(gateways):
    with gateways.running(workers=4, NUSAGATE_DATABASE_POOL_SIZE="4") as running:
        yield running


async def answer_of(port, request):
    """The status and the code of one answer on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, None if status == 200 else json.loads(body)["error"]["code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [RESPONSES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_at_once_stay_within_the_month(
    wide_gateway, people, books, simulator, *, path, stream
):
    sari = await people.join("sari", plan="free", limits=AT_ONCE)
    body = json.dumps(body_of(path, "Halo [[sim output=60 delay_ms=20]]", stream=stream)).encode()
    request = wire_bytes(sari, path, body, extra="connection: close\r\n")
    answers = Counter(await asyncio.gather(*(answer_of(wide_gateway.port, request) for _ in range(REQUESTS))))

    assert answers.keys() <= {(200, None), (429, "insufficient_quota")}
    await people.nothing_is_held()
    used = await books.used(sari)
    labels = await books.requests_of(sari)
    lines = [line for line in simulator.journal() if line["request_id"] in set(labels)]
    assert used == sum(line["input_tokens"] + line["output_tokens"] for line in lines) <= MONTHLY
    assert len(lines) == len(labels) == answers[200, None] > 0
    assert [check for check in await verify(people.db) if not check.ok] == []


@pytest.mark.slow
async def test_many_keys_of_one_account_share_its_month(wide_gateway, people, books):
    sari = await people.join("sari", plan="free", limits=AT_ONCE)
    keys = [await people.another_key(sari) for _ in range(10)]
    body = json.dumps(body_of(CHAT, "Halo [[sim output=60]]")).encode()
    requests = [wire_bytes(key, CHAT, body, extra="connection: close\r\n") for key in keys] * 30
    answers = Counter(await asyncio.gather(*(answer_of(wide_gateway.port, request) for request in requests)))
    assert answers.keys() <= {(200, None), (429, "insufficient_quota")}
    await people.nothing_is_held()
    assert 0 < await books.used(sari) <= MONTHLY
