"""Metrics of a gateway with several workers are one set of numbers, whichever of them is asked."""

import re

import httpx2

from tests.http.asking import bearer

WANTED = 12
ADMITTED = re.compile(r'nusagate_requests_total\{endpoint="responses",status="admitted"\} (\S+)')


async def test_the_metrics_of_all_workers_are_summed(gateways, people):
    sari = await people.join("sari")
    body = {"model": "nusantara-base", "input": "halo", "max_output_tokens": 16}
    with gateways.running(workers=2) as gateway:
        for _ in range(WANTED):
            # A connection of its own each, so that both workers get some.
            with httpx2.Client(base_url=gateway.url) as client:
                assert client.post("/v1/responses", json=body, headers=bearer(sari)).status_code == 200
        with httpx2.Client(base_url=gateway.url) as client:
            admitted = ADMITTED.search(client.get("/metrics").text)
    assert admitted is not None
    assert int(float(admitted[1])) == WANTED
