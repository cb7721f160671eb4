"""Webhooks: signed as the SDK verifies them, retried, and scripted to come twice, late, reversed or never."""

import http.server
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import stripe

from tests.contract.stripe.sandbox import NOON
from tests.contract.stripe.seed import catalogue, event_of, sari
from tests.fakes.processes import free_port


class Received(NamedTuple):
    """One delivery as it came in."""

    body: bytes
    signature: str


class Receiver:
    """A webhook endpoint that keeps what it gets and answers with the statuses it is told, 200 afterwards."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.received.append(Received(body, self.headers["stripe-signature"]))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the output of the tests clean."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


def endpoint(client, receiver, *events):
    return client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": list(events or ("*",))})


def verified(client, receiver, secret):
    return [client.construct_event(item.body, item.signature, secret) for item in receiver.received]


def names(client, receiver, secret):
    return [event.data.object.name for event in verified(client, receiver, secret)]


def customers(client, *names_):
    for name in names_:
        client.v1.customers.create({"name": name})


def test_a_snapshot_is_signed_as_the_sdk_verifies_it(client, sandbox, receiver):
    made = endpoint(client, receiver)
    customer = sari(client)
    sandbox.post("deliveries/flush")
    [event] = verified(client, receiver, made.secret)
    assert (event.type, event.data.object.id) == ("customer.created", customer.id)
    assert event.request.id.startswith("req_")
    assert client.v1.events.retrieve(event.id).pending_webhooks == 0
    with pytest.raises(stripe.SignatureVerificationError):
        verified(client, receiver, "whsec_another")


def test_an_endpoint_gets_only_what_it_asked_for(client, sandbox, receiver):
    made = endpoint(client, receiver, "customer.deleted")
    customer = sari(client)
    client.v1.customers.delete(customer.id)
    sandbox.post("deliveries/flush")
    assert [event.type for event in verified(client, receiver, made.secret)] == ["customer.deleted"]


def test_a_snapshot_keeps_the_object_as_it_was_and_names_what_changed(client, sandbox, receiver):
    made = endpoint(client, receiver, "customer.updated")
    customer = sari(client)
    client.v1.customers.update(customer.id, {"name": "Sari W."})
    client.v1.customers.update(customer.id, {"name": "Sari X."})
    sandbox.post("deliveries/flush")
    first, second = verified(client, receiver, made.secret)
    assert (first.data.object.name, first.data.previous_attributes.name) == ("Sari W.", "Sari")
    assert (second.data.object.name, second.data.previous_attributes.name) == ("Sari X.", "Sari W.")


def test_meter_errors_come_as_thin_events_that_can_be_fetched(client, sandbox, receiver):
    made = client.v2.core.event_destinations.create(
        {
            "name": "meters",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.error_report_triggered"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    catalogued = catalogue(client)
    params = event_of(catalogued.event_name, "cus_nobody", 1, NOON, "lost")
    client.v2.billing.meter_events.create({**params, "timestamp": "2026-11-10T12:00:00Z"})
    sandbox.advance(10)
    sandbox.post("deliveries/flush")
    [item] = receiver.received
    secret = made.webhook_endpoint.signing_secret
    notification = client.parse_event_notification(item.body, item.signature, secret)
    assert notification.type == "v1.billing.meter.error_report_triggered"
    assert notification.fetch_related_object().id == catalogued.meter.id
    assert notification.fetch_event().data.reason.error_types[0].code == "meter_event_customer_not_found"
    with pytest.raises(ValueError, match="thin"):
        client.construct_event(item.body, item.signature, secret)


def test_a_thin_destination_may_have_ordinary_events_too(client, sandbox, receiver):
    client.v2.core.event_destinations.create(
        {
            "name": "customers",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.customer.created"],
            "webhook_endpoint": {"url": receiver.url},
        }
    )
    customer = sari(client)
    sandbox.post("deliveries/flush")
    [item] = receiver.received
    assert stripe.v2.core.EventNotification.from_json(item.body, client).related_object.id == customer.id


def test_a_failed_delivery_is_tried_again_until_it_succeeds(client, sandbox, receiver):
    made = endpoint(client, receiver)
    receiver.statuses = [500, 503]
    sari(client)
    sandbox.post("deliveries/flush")
    for wait_s in (5, 60):
        sandbox.advance(wait_s)
        sandbox.post("deliveries/flush")
    sandbox.advance(3_600)
    sandbox.post("deliveries/flush")
    assert len({event.id for event in verified(client, receiver, made.secret)}) == 1
    [delivery] = sandbox.get("deliveries")["deliveries"]
    assert (delivery["state"], delivery["statuses"]) == ("delivered", [500, 503, 200])


def test_a_delivery_that_never_succeeds_is_given_up(client, sandbox, receiver):
    endpoint(client, receiver)
    receiver.statuses = [500] * 10
    sari(client)
    for wait_s in (0, 5, 60, 3_600, 86_400):
        sandbox.advance(wait_s)
        sandbox.post("deliveries/flush")
    assert sandbox.get("deliveries")["deliveries"][0]["state"] == "failed"
    assert len(receiver.received) == 4


def test_duplicates_lost_and_delayed_deliveries_are_scripted(client, sandbox, receiver):
    made = endpoint(client, receiver)
    rules = [
        {"action": "duplicate", "event": "customer.created", "copies": 2},
        {"action": "lose", "event": "customer.updated"},
        {"action": "delay", "event": "customer.deleted", "wait_s": 30},
    ]
    sandbox.post("deliveries/rules", rules=rules)
    customer = sari(client)
    client.v1.customers.update(customer.id, {"name": "Sari W."})
    client.v1.customers.delete(customer.id)
    sandbox.post("deliveries/flush")
    events = verified(client, receiver, made.secret)
    assert [event.type for event in events] == ["customer.created"] * 3
    assert len({event.id for event in events}) == 1
    sandbox.advance(30)
    sandbox.post("deliveries/flush")
    assert verified(client, receiver, made.secret)[-1].type == "customer.deleted"


@pytest.mark.parametrize(("order", "expected"), [("fifo", "ABC"), ("reverse", "CBA")])
def test_held_deliveries_are_released_in_the_order_asked_for(client, sandbox, receiver, order, expected):
    made = endpoint(client, receiver)
    sandbox.post("deliveries/rules", rules=[{"action": "hold", "times": None}])
    customers(client, *"ABC")
    sandbox.post("deliveries/flush")
    assert receiver.received == []
    assert sandbox.post("deliveries/release", order=order) == {"released": 3}
    sandbox.post("deliveries/flush")
    assert "".join(names(client, receiver, made.secret)) == expected


def test_a_shuffle_is_repeated_by_its_seed(client, sandbox, receiver):
    made = endpoint(client, receiver)
    sandbox.post("deliveries/rules", rules=[{"action": "hold", "times": None}])
    orders = []
    for _ in range(2):
        customers(client, *"ABCDEF")
        sandbox.post("deliveries/release", order="shuffle", seed=3)
        sandbox.post("deliveries/flush")
        orders.append(names(client, receiver, made.secret)[-6:])
    assert orders[0] == orders[1] != list("ABCDEF")


def test_only_addresses_of_this_machine_are_taken(client, sandbox):
    with pytest.raises(stripe.InvalidRequestError, match="this machine"):
        client.v1.webhook_endpoints.create({"url": "https://example.com/hook", "enabled_events": ["*"]})


def test_a_disabled_or_deleted_destination_gets_nothing(client, sandbox, receiver):
    first, second = endpoint(client, receiver), endpoint(client, receiver)
    client.v1.webhook_endpoints.update(first.id, {"disabled": True})
    client.v1.webhook_endpoints.delete(second.id)
    sari(client)
    sandbox.post("deliveries/flush")
    assert receiver.received == []


def thin_customers(receiver, name="customers"):
    return {
        "name": name,
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["v1.customer.created"],
        "webhook_endpoint": {"url": receiver.url},
    }


def test_a_thin_destination_gets_nothing_while_it_is_disabled(client, sandbox, receiver):
    destinations = client.v2.core.event_destinations
    made = destinations.create(thin_customers(receiver))
    disabled = destinations.disable(made.id)
    assert (disabled.status, disabled.status_details.disabled.reason) == ("disabled", "user")
    sari(client)
    sandbox.post("deliveries/flush")
    assert receiver.received == []
    assert destinations.enable(made.id).status == "enabled"
    customer = sari(client)
    sandbox.post("deliveries/flush")
    [item] = receiver.received
    assert stripe.v2.core.EventNotification.from_json(item.body, client).related_object.id == customer.id


def test_v2_shows_an_address_when_asked_and_a_secret_only_once(client, receiver):
    destinations = client.v2.core.event_destinations
    made = destinations.create(
        {**thin_customers(receiver), "include": ["webhook_endpoint.url", "webhook_endpoint.signing_secret"]}
    )
    assert made.webhook_endpoint.url == receiver.url
    assert made.webhook_endpoint.signing_secret.startswith("whsec_")
    assert "webhook_endpoint" not in destinations.retrieve(made.id).to_dict()
    asked = destinations.retrieve(made.id, {"include": ["webhook_endpoint.url"]})
    assert asked.webhook_endpoint.to_dict() == {"url": receiver.url}
    with pytest.raises(stripe.InvalidRequestError):
        destinations.retrieve(made.id, {"include": ["webhook_endpoint.signing_secret"]})


def test_destinations_are_listed_newest_first_page_by_page(client, receiver):
    for name in "ABC":
        client.v2.core.event_destinations.create(thin_customers(receiver, name))
    page = client.v2.core.event_destinations.list({"limit": 2, "include": ["webhook_endpoint.url"]})
    assert [place.name for place in page.data] == ["C", "B"]
    places = list(page.auto_paging_iter())
    assert [place.name for place in places] == ["C", "B", "A"]
    assert {place.webhook_endpoint.url for place in places} == {receiver.url}


def test_the_next_page_of_v2s_events_holds_what_the_first_was_asked_for(client, receiver):
    everything = {**thin_customers(receiver), "enabled_events": ["*"]}
    client.v2.core.event_destinations.create(everything)
    customers_ = [sari(client) for _ in range(3)]
    for customer in customers_:
        client.v1.customers.update(customer.id, {"name": "Sari W."})
    page = client.v2.core.events.list({"limit": 1, "types": ["v1.customer.created"]})
    found = [event.related_object.id for event in page.auto_paging_iter()]
    assert found == [customer.id for customer in reversed(customers_)]


def test_an_endpoint_is_changed_in_every_field_that_it_was_made_with(client, receiver):
    made = endpoint(client, receiver, "invoice.paid")
    changed = client.v1.webhook_endpoints.update(
        made.id, {"description": "Nusagate", "enabled_events": ["*"], "metadata": {"room": "billing"}}
    )
    assert (changed.description, changed.enabled_events) == ("Nusagate", ["*"])
    read = client.v1.webhook_endpoints.retrieve(made.id)
    assert (read.metadata["room"], "secret" in read.to_dict()) == ("billing", False)


def test_sixteen_destinations_are_the_most(client, sandbox, receiver):
    for _ in range(16):
        endpoint(client, receiver)
    with pytest.raises(stripe.InvalidRequestError, match="16"):
        client.v2.core.event_destinations.create(thin_customers(receiver))


def test_a_delivery_to_nobody_counts_as_failed(client, sandbox):
    client.v1.webhook_endpoints.create({"url": f"http://127.0.0.1:{free_port()}", "enabled_events": ["*"]})
    sari(client)
    sandbox.post("deliveries/flush")
    assert sandbox.get("deliveries")["deliveries"][0]["statuses"] == [0]
