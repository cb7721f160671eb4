"""Metrics of a gateway with several workers are one set of numbers, whichever of them is asked."""

import re

import httpx2

from gateway.clock import monotonic_s
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
        # Another worker than the one that is asked publishes what it counted within a second.
        deadline = monotonic_s() + 20
        while admitted(gateway.url) < WANTED and monotonic_s() < deadline:
            pass
        assert admitted(gateway.url) == WANTED


def test_the_folder_that_the_workers_share_goes_with_them(gateways, tmp_path):
    with gateways.running(workers=2, TMPDIR=str(tmp_path)):
        assert len(list(tmp_path.glob("nusagate-metrics-*"))) == 1
    assert list(tmp_path.glob("nusagate-metrics-*")) == []


def admitted(url: str) -> int:
    """Ask whichever worker takes the connection how many requests were admitted."""
    found = ADMITTED.search(httpx2.get(f"{url}/metrics").text)
    return 0 if found is None else int(float(found[1]))
