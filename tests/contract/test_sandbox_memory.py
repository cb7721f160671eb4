"""The sandbox's file: what a restart keeps, and how a damaged or foreign start fails."""

import json

import pytest

from billing.sandbox.serve import WebhookTarget, open_world, running
from gateway.errors import ConfigurationError
from tests.contract.conftest import SANDBOX_KEY
from tests.contract.stripe.contract import checked_client
from tests.contract.stripe.sandbox import DAY_S, NOON, running_sandbox
from tests.contract.stripe.seed import catalogue, event_of, sari

SECRET = "whsec_dev"


def test_a_restart_keeps_customers_usage_keys_and_the_clock(tmp_path):
    arguments = ("--state", str(tmp_path / "stripe.json"))
    options = {"idempotency_key": "me:1:1"}
    with running_sandbox(tmp_path, *arguments) as before:
        before.reset()
        client = checked_client(SANDBOX_KEY, before.url)
        made, customer = catalogue(client), sari(client)
        params = event_of(made.event_name, customer.id, 5, NOON, "once")
        client.v1.billing.meter_events.create(params, options)
    with running_sandbox(tmp_path, *arguments) as after:
        client = checked_client(SANDBOX_KEY, after.url)
        assert client.v1.customers.retrieve(customer.id).email == "sari@example.com"
        again = client.v1.billing.meter_events.create(params, options)
        assert again.last_response.headers["idempotent-replayed"] == "true"
        state = after.get("state")
        assert (state["now"], state["sums"]) == (NOON, {customer.id: {made.event_name: "5"}})


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "stripe.json"
    file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"stripe\.json"):
        open_world(public_url="http://127.0.0.1:1", state_path=file)


def test_targets_given_at_start_replace_themselves_and_no_others(tmp_path):
    snapshot = WebhookTarget("http://127.0.0.1:9/hook", SECRET)
    thin = WebhookTarget("http://127.0.0.1:9/hook", SECRET, thin=True)
    world = open_world(public_url="http://127.0.0.1:1", webhooks=[snapshot, thin, snapshot, thin])
    assert len(world.table("webhook_endpoint")) == 1
    assert len(world.table("v2.core.event_destination")) == 1


def test_targets_of_an_earlier_start_are_forgotten_and_those_made_by_a_client_are_not(tmp_path):
    file = tmp_path / "stripe.json"
    hook = {"url": "http://127.0.0.1:9/mine", "enabled_events": ["*"]}
    with running_sandbox(tmp_path, "--state", str(file), "--webhook", "http://127.0.0.1:9/old") as before:
        checked_client(SANDBOX_KEY, before.url).v1.webhook_endpoints.create(hook)
    with running_sandbox(tmp_path, "--state", str(file), "--webhook", "http://127.0.0.1:9/new") as after:
        places = checked_client(SANDBOX_KEY, after.url).v1.webhook_endpoints.list().data
        assert {place.url for place in places} == {"http://127.0.0.1:9/mine", "http://127.0.0.1:9/new"}


def test_the_file_of_its_clock_says_how_far_it_is_ahead_now_and_after_a_restart(tmp_path):
    file = tmp_path / "stripe.clock"
    arguments = ("--state", str(tmp_path / "stripe.json"), "--clock", str(file))
    with running_sandbox(tmp_path, *arguments) as before:
        assert file.read_text() == "0"
        before.advance(DAY_S)
        assert file.read_text() == str(DAY_S)
    file.unlink()
    with running_sandbox(tmp_path, *arguments) as after:
        assert file.read_text() == str(DAY_S)
        after.advance(1)
        assert file.read_text() == str(DAY_S + 1)


def test_an_empty_webhook_secret_refuses_to_start():
    with pytest.raises(ConfigurationError, match="secret"):
        open_world(public_url="http://127.0.0.1:1", webhooks=[WebhookTarget("http://127.0.0.1:9/hook", "")])


async def test_it_listens_on_this_machine_only():
    with pytest.raises(ConfigurationError, match="this machine"):
        async with running("0.0.0.0", 1):
            pytest.fail("it listens")


def test_the_file_is_plain_json(tmp_path):
    file = tmp_path / "stripe.json"
    with running_sandbox(tmp_path, "--state", str(file)) as process:
        customer = sari(checked_client(SANDBOX_KEY, process.url))
    assert json.loads(file.read_text())["objects"]["customer"][customer.id]["name"] == "Sari"
