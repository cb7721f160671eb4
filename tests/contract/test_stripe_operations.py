"""Every operation is called once as Stripe takes it and once as Stripe refuses it, and both ways keep the contract."""

import re
import time
from pathlib import Path

import pytest
import stripe

from billing.sandbox.api import ROUTER
from tests.contract.conftest import STRIPE_TEST_KEY
from tests.contract.stripe.collecting import CUSTOMERS, MONEY, NEWS, TIME
from tests.contract.stripe.contract import AHEAD_OF_DOCUMENT, DOCUMENT
from tests.contract.stripe.sandbox import NOON
from tests.contract.stripe.selling import BILLING, SALES
from tests.contract.stripe.stage import Stage

SCENARIOS = {**BILLING, **SALES, **CUSTOMERS, **MONEY, **NEWS, **TIME}
OPERATIONS = (Path(__file__).parent / "stripe" / "operations.txt").read_text().split("\n")


@pytest.fixture
def stage(client, request) -> Stage:
    now = int(time.time()) if STRIPE_TEST_KEY else NOON
    return Stage(client, now, lambda: request.getfixturevalue("sandbox"))


def kept(stage):
    return stage.client._requestor._get_http_client().checked


def nameless(operation):
    """The document and the sandbox call the ids in a path by different names."""
    return re.sub(r"\{\w+\}", "{}", operation)


@pytest.mark.parametrize("operation", SCENARIOS)
def test_what_stripe_takes_is_answered_as_the_contract_says_and_so_are_its_events(stage, operation):
    SCENARIOS[operation].works(stage)
    assert (operation, "response") in kept(stage)
    stage.v1.events.list({"limit": 100})


@pytest.mark.parametrize("operation", SCENARIOS)
def test_what_stripe_refuses_is_refused_as_the_contract_says(stage, operation):
    with pytest.raises(stripe.StripeError) as refused:
        SCENARIOS[operation].refused(stage)
    assert refused.value.http_status == SCENARIOS[operation].status
    assert (operation, "error") in kept(stage)


def test_every_operation_of_the_list_has_its_scenario():
    assert sorted(SCENARIOS) == sorted([*filter(None, OPERATIONS), *AHEAD_OF_DOCUMENT])


def test_the_document_holds_the_operations_of_the_list():
    assert sorted(DOCUMENT["operations"]) == sorted(filter(None, OPERATIONS))


def test_the_sandbox_offers_the_operations_that_have_a_scenario_and_no_others():
    offered = [f"{route.method} {route.path}" for route in ROUTER.routes]
    assert sorted(map(nameless, offered)) == sorted(map(nameless, SCENARIOS))
