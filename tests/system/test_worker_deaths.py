"""A gateway whose workers are killed goes on: the process that watches over them replaces each one."""

import os
import signal
from pathlib import Path

import httpx2
import pytest

from tests.fakes.supervisor import descendants, is_running, wait_until

KILLS = 4
SERVES_AGAIN_S = 20


def server_of(pid: int) -> list[int]:
    """The workers of a gateway; its other child only watches over shared resources."""
    return [
        child
        for child in descendants(pid)
        if is_running(child) and b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def serves(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_serves_again_however_often_its_workers_are_killed(gateways, workers):
    with gateways.running(workers=workers) as gateway:
        killed: set[int] = set()

        def heirs_serve() -> bool:
            return len(set(server_of(gateway.process.pid)) - killed) == workers and serves(gateway.url)

        while len(killed) < KILLS:
            victims = server_of(gateway.process.pid)
            assert len(victims) == workers
            killed.update(victims)
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            wait_until(heirs_serve, "the heirs serve", SERVES_AGAIN_S)
        assert is_running(gateway.process.pid)
        assert gateway.process.stop() == 0
