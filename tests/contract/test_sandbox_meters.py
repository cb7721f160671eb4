"""Meter events on both APIs: what counts, what is refused at once, and what is refused later."""

import time
from uuid import uuid4

import pytest
import stripe

from tests.contract.conftest import STRIPE_TEST_KEY
from tests.contract.stripe.sandbox import DAY_S, HOUR_S, NOON
from tests.contract.stripe.seed import catalogue, event_of, new_meter, sari


def fresh() -> str:
    return f"gw1:{uuid4().hex}:1"


def current_time() -> int:
    return int(time.time()) if STRIPE_TEST_KEY else NOON


def rfc(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def send(client, event_name, customer, value, *, at=NOON, identifier=None, key=None):
    options = {"idempotency_key": key} if key else {}
    return client.v1.billing.meter_events.create(
        event_of(event_name, customer, value, at, identifier), options
    )


def send_v2(client, event_name, customer, value, *, at=NOON, identifier=None):
    params = event_of(event_name, customer, value, at, identifier)
    return client.v2.billing.meter_events.create({**params, "timestamp": rfc(at)})


def test_a_meter_event_counts_for_its_customer(client, sandbox):
    made, customer = catalogue(client), sari(client)
    event = send(client, made.event_name, customer.id, 25, identifier="first")
    assert (event.identifier, event.timestamp, event.payload["value"]) == ("first", NOON, "25")
    assert sandbox.sum_of(customer.id, made.event_name) == "25"


def test_events_of_both_apis_add_up(client, sandbox):
    made, customer = catalogue(client), sari(client)
    send(client, made.event_name, customer.id, "10")
    send_v2(client, made.event_name, customer.id, "2.5")
    send(client, made.event_name, customer.id, "-0.25")
    assert sandbox.sum_of(customer.id, made.event_name) == "12.25"


def test_a_second_event_with_a_used_identifier_is_refused_by_v1_without_a_code(client):
    made, customer, identifier = catalogue(client), sari(client), fresh()
    now = current_time()
    send(client, made.event_name, customer.id, 1, at=now, identifier=identifier)
    with pytest.raises(
        stripe.InvalidRequestError, match=f"already exists with identifier {identifier}"
    ) as refused:
        send(client, made.event_name, customer.id, 1, at=now, identifier=identifier)
    assert (refused.value.http_status, refused.value.code) == (400, None)
    assert refused.value.headers["stripe-should-retry"] == "false"


def test_a_second_event_with_a_used_identifier_is_refused_by_v2_with_a_code(client):
    made, customer, identifier = catalogue(client), sari(client), fresh()
    now = current_time()
    send_v2(client, made.event_name, customer.id, 1, at=now, identifier=identifier)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send_v2(client, made.event_name, customer.id, 1, at=now, identifier=identifier)
    assert (refused.value.http_status, refused.value.code) == (400, "duplicate_meter_event")


def test_an_identifier_is_unique_across_both_apis(client, sandbox):
    made, customer = catalogue(client), sari(client)
    send(client, made.event_name, customer.id, 1, identifier="shared")
    with pytest.raises(stripe.InvalidRequestError):
        send_v2(client, made.event_name, customer.id, 1, identifier="shared")
    assert sandbox.sum_of(customer.id, made.event_name) == "1"


def test_an_identifier_is_free_again_after_a_day_and_then_counts_twice(client, sandbox):
    made, customer = catalogue(client), sari(client)
    send(client, made.event_name, customer.id, 7, identifier="old")
    sandbox.advance(DAY_S - 1)
    with pytest.raises(stripe.InvalidRequestError):
        send(client, made.event_name, customer.id, 7, identifier="old")
    sandbox.advance(1)
    send(client, made.event_name, customer.id, 7, identifier="old")
    assert sandbox.sum_of(customer.id, made.event_name) == "14"


@pytest.mark.parametrize(
    ("age_s", "code"),
    [
        (35 * DAY_S, None),
        (35 * DAY_S + 1, "timestamp_too_far_in_past"),
        (-300, None),
        (-301, "timestamp_in_future"),
    ],
)
def test_timestamps_reach_35_days_back_and_5_minutes_ahead(client, sandbox, age_s, code):
    made, customer = catalogue(client), sari(client)
    if code is None:
        assert send(client, made.event_name, customer.id, 1, at=NOON - age_s).timestamp == NOON - age_s
        return
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send(client, made.event_name, customer.id, 1, at=NOON - age_s)
    assert refused.value.code == code
    assert sandbox.sum_of(customer.id, made.event_name) is None


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"value": "1"}, "payload_no_customer_defined"),
        ({"stripe_customer_id": "cus_any"}, "payload_no_value_defined"),
        ({"stripe_customer_id": "cus_any", "value": "many"}, "payload_invalid_value"),
        ({"stripe_customer_id": "cus_any", "value": "1e9"}, "payload_invalid_value"),
    ],
)
def test_v2_names_what_is_wrong_with_a_payload(client, payload, code):
    made = catalogue(client)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create({"event_name": made.event_name, "payload": payload})
    assert (refused.value.http_status, refused.value.code) == (400, code)


def test_events_for_no_meter_and_for_an_archived_one_are_refused(client):
    made = catalogue(client)
    payload = {"stripe_customer_id": sari(client).id, "value": "1"}
    client.v1.billing.meters.deactivate(made.meter.id)
    for event_name, code in ((f"none_{uuid4().hex}", "no_meter"), (made.event_name, "archived_meter")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v2.billing.meter_events.create({"event_name": event_name, "payload": payload})
        assert refused.value.code == code
    client.v1.billing.meters.reactivate(made.meter.id)
    client.v2.billing.meter_events.create({"event_name": made.event_name, "payload": payload})


@pytest.mark.parametrize("is_deleted", [True, False])
def test_v1_refuses_a_customer_that_is_not_there(client, sandbox, is_deleted):
    made, customer = catalogue(client), sari(client)
    if is_deleted:
        client.v1.customers.delete(customer.id)
    with pytest.raises(stripe.InvalidRequestError, match="No such customer") as refused:
        send(client, made.event_name, customer.id if is_deleted else "cus_nobody", 1)
    assert refused.value.code == "resource_missing"


def test_v2_finds_a_missing_customer_only_later_and_reports_it_as_a_thin_event(client, sandbox):
    made = catalogue(client)
    send_v2(client, made.event_name, "cus_nobody", 1, identifier="lost")
    sandbox.advance(9)
    assert client.v2.core.events.list().data == []
    sandbox.advance(1)
    [listed] = client.v2.core.events.list().data
    event = client.v2.core.events.retrieve(listed.id)
    assert event.type == "v1.billing.meter.error_report_triggered"
    assert event.related_object.id == made.meter.id
    [found] = event.data.reason.error_types
    assert (found.code, found.error_count) == ("meter_event_customer_not_found", 1)
    assert found.sample_errors[0].request.identifier == "lost"


def test_a_report_counts_every_error_and_names_only_some(client, sandbox):
    made = catalogue(client)
    for number in range(8):
        send_v2(client, made.event_name, "cus_nobody", 1, identifier=f"lost-{number}")
    sandbox.advance(10)
    [event] = client.v2.core.events.list().data
    [found] = event.data.reason.error_types
    assert found.error_count == 8
    assert len(found.sample_errors) == 5


def test_v1_may_be_told_to_check_later_too_and_the_identifier_is_used_up(client, sandbox):
    sandbox.post("settings", synchronous_validation=False)
    customer = sari(client)
    send(client, "no_such_meter", customer.id, 1, identifier="burnt")
    sandbox.advance(10)
    [event] = client.v2.core.events.list().data
    assert event.type == "v1.billing.meter.no_meter_found"
    new_meter(client, "no_such_meter")
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        send(client, "no_such_meter", customer.id, 1, identifier="burnt")


def test_the_stream_takes_a_hundred_events_unchecked_and_drops_duplicates(client, sandbox):
    made, customer = catalogue(client), sari(client)
    session = client.v2.billing.meter_event_session.create()
    events = [
        {**event_of(made.event_name, customer.id, 1, NOON, f"s{number % 99}"), "timestamp": rfc(NOON)}
        for number in range(100)
    ]
    options = {"api_key": session.authentication_token}
    client.v2.billing.meter_event_stream.create({"events": events}, options)
    assert sandbox.sum_of(customer.id, made.event_name) == "99"
    sandbox.advance(15 * 60)
    with pytest.raises(stripe.TemporarySessionExpiredError):
        client.v2.billing.meter_event_stream.create({"events": events[:1]}, options)


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_an_event_can_be_cancelled_for_a_day_after_it_was_received(client, sandbox, api):
    made, customer = catalogue(client), sari(client)
    send(client, made.event_name, customer.id, 5, identifier="keep")
    send(client, made.event_name, customer.id, 7, identifier="cancel")
    adjustments = getattr(client, api).billing.meter_event_adjustments
    params = {"event_name": made.event_name, "type": "cancel", "cancel": {"identifier": "cancel"}}
    assert adjustments.create(params).status == "pending"
    assert sandbox.sum_of(customer.id, made.event_name) == "5"
    sandbox.advance(DAY_S)
    with pytest.raises(stripe.InvalidRequestError, match="24 hours"):
        adjustments.create({**params, "cancel": {"identifier": "keep"}})


def test_summaries_group_by_utc_hour_and_day(client, sandbox):
    made, customer = catalogue(client), sari(client)
    for value, at in ((1, NOON), (2, NOON - 1), (4, NOON - HOUR_S), (8, NOON - DAY_S)):
        send(client, made.event_name, customer.id, value, at=at)
    summaries = client.v1.billing.meters.event_summaries
    midnight = NOON - NOON % DAY_S
    whole = {"customer": customer.id, "start_time": midnight - DAY_S, "end_time": midnight + DAY_S}
    hours = summaries.list(made.meter.id, {**whole, "value_grouping_window": "hour"}).data
    assert [(row.start_time, row.aggregated_value) for row in hours] == [
        (NOON, 1),
        (NOON - HOUR_S, 6),
        (NOON - DAY_S, 8),
    ]
    days = summaries.list(made.meter.id, {**whole, "value_grouping_window": "day"}).data
    assert [(row.start_time, row.aggregated_value) for row in days] == [(midnight, 7), (midnight - DAY_S, 8)]
    [total] = summaries.list(made.meter.id, {**whole, "start_time": NOON - 60, "end_time": NOON + 60}).data
    assert total.aggregated_value == 3


def test_a_summary_starts_inclusively_and_ends_exclusively(client, sandbox):
    made, customer = catalogue(client), sari(client)
    for value, at in ((1, NOON - HOUR_S), (2, NOON)):
        send(client, made.event_name, customer.id, value, at=at)
    params = {"customer": customer.id, "start_time": NOON - HOUR_S, "end_time": NOON}
    [row] = client.v1.billing.meters.event_summaries.list(made.meter.id, params).data
    assert row.aggregated_value == 1


@pytest.mark.parametrize(
    ("window", "start", "problem"),
    [(None, NOON + 1, "minute"), ("hour", NOON + 60, "hour"), ("day", NOON, "day")],
)
def test_a_summary_whose_range_is_not_aligned_is_refused(client, sandbox, window, start, problem):
    made, customer = catalogue(client), sari(client)
    params = {"customer": customer.id, "start_time": start, "end_time": start + DAY_S}
    grouping = {"value_grouping_window": window} if window else {}
    with pytest.raises(stripe.InvalidRequestError, match=f"{problem} boundaries"):
        client.v1.billing.meters.event_summaries.list(made.meter.id, {**params, **grouping})


def test_accepted_events_may_take_time_to_be_seen(client, sandbox):
    made, customer = catalogue(client), sari(client)
    sandbox.post("settings", visibility_delay_s=60)
    send(client, made.event_name, customer.id, 3)
    params = {"customer": customer.id, "start_time": NOON, "end_time": NOON + 60}
    seen = client.v1.billing.meters.event_summaries.list
    assert seen(made.meter.id, params).data[0].aggregated_value == 0
    sandbox.advance(60)
    assert seen(made.meter.id, params).data[0].aggregated_value == 3


def test_an_event_name_belongs_to_one_meter(client):
    made = catalogue(client)
    with pytest.raises(stripe.InvalidRequestError):
        new_meter(client, made.event_name)
    assert made.meter.id in {meter.id for meter in client.v1.billing.meters.list({"status": "active"}).data}


def test_two_meters_do_not_mix(client, sandbox):
    made, customer = catalogue(client), sari(client)
    new_meter(client, "other")
    send(client, made.event_name, customer.id, 1)
    send(client, "other", customer.id, 2)
    assert sandbox.sum_of(customer.id, made.event_name) == "1"
    assert sandbox.sum_of(customer.id, "other") == "2"


def test_a_meter_may_be_renamed_and_nothing_else_of_it_changes(client):
    meter = new_meter(client, "renamed")
    renamed = client.v1.billing.meters.update(meter.id, {"display_name": "Spend in rupiah"})
    assert (renamed.display_name, renamed.event_name) == ("Spend in rupiah", "renamed")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.update(meter.id, {"event_name": "another"})
    assert refused.value.code == "parameter_unknown"
    assert client.v1.billing.meters.retrieve(meter.id) == renamed


def test_the_stream_takes_no_token_that_it_did_not_give(client):
    with pytest.raises(stripe.AuthenticationError) as refused:
        client.v2.billing.meter_event_stream.create({"events": []}, {"api_key": "mes_token_of_somebody"})
    assert refused.value.http_status == 401
