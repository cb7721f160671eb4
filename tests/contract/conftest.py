"""One sandbox process for all contract tests with Stripe, emptied between them, or Stripe itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from tests.contract.stripe.contract import checked_client
from tests.contract.stripe.sandbox import SandboxProcess, running_sandbox

STRIPE_TEST_KEY = os.environ.get("STRIPE_TEST_KEY", "")
SANDBOX_KEY = "sk_test_sandbox"
STRIPES_HOSTS = ["127.0.0.1", "::1", "api.stripe.com", "meter-events.stripe.com"]
"""Tests reach this machine only, and these where they are to run against Stripe itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of this folder reach Stripe where there is a key for it."""
    for item in items:
        if STRIPE_TEST_KEY and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.allow_hosts(STRIPES_HOSTS))


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The one process of this run."""
    with running_sandbox(Path(tmp_path_factory.mktemp("sandbox"))) as process:
        yield process


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> SandboxProcess:
    """An empty sandbox whose clock stands still; a test that asks for it does not run against Stripe itself."""
    if STRIPE_TEST_KEY:
        pytest.skip("needs the sandbox's control endpoints")
    process: SandboxProcess = request.getfixturevalue("sandbox_process")
    process.reset()
    return process


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[stripe.StripeClient]:
    """The official SDK, every request and answer of it checked against Stripe's document."""
    if STRIPE_TEST_KEY:
        assert STRIPE_TEST_KEY.startswith("sk_test_"), "STRIPE_TEST_KEY must be a test key"
        made = checked_client(STRIPE_TEST_KEY, None, timeout_s=30)
    else:
        made = checked_client(SANDBOX_KEY, request.getfixturevalue("sandbox").url)
    yield made
    made._requestor._get_http_client().close()
