"""The cast at the gateway's door, and the proof after each file that its books are right."""

import asyncio

import pytest

from gateway.db.pool import open_connection
from gateway.ledger.service import verify
from gateway.runtime.settings import Limits


@pytest.fixture
async def sari(people):
    """Sari pays by the token and has no limits."""
    return await people.join("sari")


@pytest.fixture
async def budi(people):
    return await people.join("budi")


@pytest.fixture(scope="module", autouse=True)
def books_are_right(gateway_database_url):
    """Every invariant of the ledger holds when a file of tests is through."""
    yield
    assert [check for check in asyncio.run(_verify(gateway_database_url)) if not check.ok] == []


async def _verify(url):
    connection = await open_connection(url, Limits(), application="tests")
    try:
        return await verify(connection)
    finally:
        await connection.close()
