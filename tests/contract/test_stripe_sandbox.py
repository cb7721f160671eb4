"""The manners of Stripe's API itself: keys, replays, pages, errors, and the faults that are scripted."""

import threading
import time
from uuid import uuid4

import pytest
import stripe

from tests.contract.conftest import SANDBOX_KEY, STRIPE_TEST_KEY
from tests.contract.stripe.contract import checked_client
from tests.contract.stripe.sandbox import DAY_S, NOON
from tests.contract.stripe.seed import catalogue, event_of, paying_sari, sari


def key() -> dict[str, str]:
    return {"idempotency_key": f"me:{uuid4().hex}:1"}


def in_parallel(*calls):
    """Make calls at the same time; return what came of each, a value or an error."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except stripe.StripeError as problem:
            results[index] = problem

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_customer_is_created_changed_read_listed_and_deleted(client):
    customer = sari(client, description="first")
    changed = client.v1.customers.update(
        customer.id, {"metadata": {"account": "7", "gone": ""}, "name": "Sari W."}
    )
    assert (changed.name, changed.metadata["account"], changed.description) == ("Sari W.", "7", "first")
    assert client.v1.customers.retrieve(customer.id).name == "Sari W."
    assert customer.id in {row.id for row in client.v1.customers.list({"email": "sari@example.com"}).data}
    assert client.v1.customers.delete(customer.id).deleted
    assert client.v1.customers.retrieve(customer.id).deleted
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.update(customer.id, {"name": "Nobody"})


def test_a_customer_that_never_was_is_404(client):
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_nobody'") as refused:
        client.v1.customers.retrieve("cus_nobody")
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (
        404,
        "resource_missing",
        "id",
    )


def test_an_unknown_parameter_is_named(client):
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter: nickname") as refused:
        client.v1.customers.create({"nickname": "Sari"})
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "nickname")


def test_a_missing_parameter_is_named_by_its_path(client):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.create({"display_name": "x", "event_name": "y", "default_aggregation": {}})
    assert refused.value.http_status == 400
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meter_events.create({"payload": {"value": "1"}})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "event_name")


@pytest.mark.parametrize("wrong", ["pk_test_public", "nothing"])
def test_only_secret_and_restricted_keys_are_let_in(sandbox, wrong):
    with pytest.raises(stripe.AuthenticationError) as refused:
        checked_client(wrong, sandbox.url).v1.customers.list()
    assert refused.value.http_status == 401
    assert checked_client("rk_test_restricted", sandbox.url).v1.customers.list().data == []


def test_lists_come_newest_first_in_pages(client, sandbox):
    made = [sari(client).id for _ in range(5)]
    first = client.v1.customers.list({"limit": 2})
    assert ([row.id for row in first.data], first.has_more) == ([made[4], made[3]], True)
    assert [row.id for row in first.auto_paging_iter()] == made[::-1]
    before = client.v1.customers.list({"limit": 2, "ending_before": made[0]})
    assert ([row.id for row in before.data], before.has_more) == ([made[2], made[1]], True)


def test_answers_carry_a_request_id_and_the_key(client):
    options = key()
    customer = client.v1.customers.create({"email": "sari@example.com"}, options)
    assert customer.last_response.request_id.startswith("req_")
    assert customer.last_response.headers["idempotency-key"] == options["idempotency_key"]


def test_an_id_is_expanded_when_asked_for(client):
    customer = paying_sari(client)
    [method] = client.v1.customers.payment_methods.list(customer.id, {"expand": ["data.customer"]}).data
    assert method.customer.email == "sari@example.com"
    assert client.v1.payment_methods.retrieve(method.id).customer == customer.id


def test_a_used_key_replays_its_answer_and_nothing_happens_again(client):
    options = key()
    first = client.v1.customers.create({"email": "sari@example.com"}, options)
    again = client.v1.customers.create({"email": "sari@example.com"}, options)
    assert again.id == first.id
    assert "idempotent-replayed" not in first.last_response.headers
    assert again.last_response.headers["idempotent-replayed"] == "true"


def test_a_used_key_with_other_parameters_is_refused(client):
    options = key()
    client.v1.customers.create({"email": "sari@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.customers.create({"email": "budi@example.com"}, options)
    assert refused.value.http_status == 400


def test_v2_refuses_a_used_key_with_other_parameters_too(client):
    made, customer, options = catalogue(client), sari(client), key()
    params = {"event_name": made.event_name, "payload": {"stripe_customer_id": customer.id, "value": "3"}}
    client.v2.billing.meter_events.create(params, options)
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v2.billing.meter_events.create({**params, "identifier": "another"}, options)
    assert (refused.value.http_status, refused.value.code) == (400, "idempotency_error")


def test_a_refused_event_is_refused_again_with_the_same_key(client, sandbox):
    made, options = catalogue(client), key()
    params = event_of(made.event_name, "cus_nobody", 1, NOON)
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
            client.v1.billing.meter_events.create(params, options)
    assert [note["replayed"] for note in sandbox.get("state")["requests"]][-2:] == [False, True]


def test_wrong_parameters_do_not_use_up_a_key(client):
    options = key()
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create({"nickname": "Sari"}, options)
    assert client.v1.customers.create({"name": "Sari"}, options).name == "Sari"


def test_a_key_is_forgotten_after_a_day_of_the_sandboxs_clock(client, sandbox):
    options = key()
    first = client.v1.customers.create({"email": "sari@example.com"}, options)
    sandbox.advance(DAY_S - 1)
    assert client.v1.customers.create({"email": "sari@example.com"}, options).id == first.id
    sandbox.advance(1)
    assert client.v1.customers.create({"email": "sari@example.com"}, options).id != first.id


def test_a_key_in_use_is_409_and_the_first_request_goes_through(client, sandbox):
    sandbox.faults({"kind": "delay", "path": "/v1/customers", "wait_s": 2.0})
    options = key()

    def create():
        return client.v1.customers.create({"email": "sari@example.com"}, options)

    results = in_parallel(create, create)
    assert sorted(type(result).__name__ for result in results) == ["APIError", "Customer"]
    [refused] = [result for result in results if isinstance(result, stripe.StripeError)]
    assert (refused.http_status, refused.json_body["error"]["code"]) == (409, "idempotency_key_in_use")
    assert len(client.v1.customers.list().data) == 1


def test_v2_runs_a_failed_request_again_and_replays_a_success(client, sandbox):
    made, customer, options = catalogue(client), sari(client), key()
    params = {
        "event_name": made.event_name,
        "payload": {"stripe_customer_id": customer.id, "value": "3"},
        "identifier": "again",
    }
    client.v1.billing.meters.deactivate(made.meter.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v2.billing.meter_events.create(params, options)
    client.v1.billing.meters.reactivate(made.meter.id)
    client.v2.billing.meter_events.create(params, options)
    sandbox.advance(2 * DAY_S)
    again = client.v2.billing.meter_events.create(params, options)
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert sandbox.sum_of(customer.id, made.event_name) == "3"


def test_commit_then_drop_counts_once_when_the_same_request_comes_again(client, sandbox):
    made, customer, options = catalogue(client), sari(client), key()
    params = event_of(made.event_name, customer.id, 5, NOON, "dropped")
    sandbox.faults({"kind": "commit_then_drop", "path": "/v1/billing/meter_events"})
    with pytest.raises(stripe.APIConnectionError):
        client.v1.billing.meter_events.create(params, options)
    assert sandbox.sum_of(customer.id, made.event_name) == "5"
    again = client.v1.billing.meter_events.create(params, options)
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        client.v1.billing.meter_events.create(params, key())
    assert sandbox.sum_of(customer.id, made.event_name) == "5"


def test_a_reset_leaves_nothing_behind(client, sandbox):
    sandbox.faults({"kind": "reset", "path": "/v1/customers"})
    options = key()
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({"email": "sari@example.com"}, options)
    assert client.v1.customers.list().data == []
    assert "idempotent-replayed" not in client.v1.customers.create({}, options).last_response.headers


@pytest.mark.parametrize(
    ("status", "stripe_code", "error"),
    [
        (429, "lock_timeout", stripe.RateLimitError),
        (429, "rate_limit", stripe.RateLimitError),
        (500, None, stripe.APIError),
        (503, None, stripe.APIError),
        (401, None, stripe.AuthenticationError),
        (403, None, stripe.PermissionError),
    ],
)
def test_a_rejection_happens_before_anything_is_done(client, sandbox, status, stripe_code, error):
    sandbox.faults({"kind": "reject", "status": status, "stripe_code": stripe_code, "retry_after_s": 7})
    options = key()
    with pytest.raises(error) as refused:
        client.v1.customers.create({}, options)
    assert refused.value.http_status == status
    assert refused.value.json_body["error"].get("code") == stripe_code
    assert refused.value.headers["retry-after"] == "7"
    assert client.v1.customers.list().data == []
    assert "idempotent-replayed" not in client.v1.customers.create({}, options).last_response.headers


@pytest.mark.parametrize(("committed", "counted"), [(True, "5"), (False, None)])
def test_a_stored_500_is_replayed_for_its_key_whatever_became_of_it(client, sandbox, committed, counted):
    made, customer, options = catalogue(client), sari(client), key()
    params = event_of(made.event_name, customer.id, 5, NOON, "fivehundred")
    sandbox.faults({"kind": "error_stored", "path": "/v1/billing/meter_events", "committed": committed})
    for replayed in (None, "true", "true"):
        with pytest.raises(stripe.APIError) as failed:
            client.v1.billing.meter_events.create(params, options)
        assert failed.value.http_status == 500
        assert failed.value.headers.get("idempotent-replayed") == replayed
    assert sandbox.sum_of(customer.id, made.event_name) == counted


def test_a_slow_body_times_out_after_the_effect(sandbox):
    hasty = checked_client(SANDBOX_KEY, sandbox.url, timeout_s=0.5)
    sandbox.faults({"kind": "slow_body", "path": "/v1/customers", "wait_s": 2.0})
    with pytest.raises(stripe.APIConnectionError):
        hasty.v1.customers.create({"email": "sari@example.com"})
    assert len(hasty.v1.customers.list().data) == 1


def test_the_sdk_retries_a_dropped_answer_itself_and_gets_the_stored_one(sandbox):
    patient = checked_client(SANDBOX_KEY, sandbox.url, retries=2)
    sandbox.faults({"kind": "reject", "status": 500, "times": 1})
    customer = patient.v1.customers.create({"email": "sari@example.com"})
    assert [row.id for row in patient.v1.customers.list().data] == [customer.id]


def test_faults_strike_a_share_of_requests_that_a_seed_repeats(client, sandbox):
    def struck():
        sandbox.faults({"kind": "reject", "share_percent": 30, "seed": 7, "times": None})
        outcomes = []
        for _ in range(20):
            try:
                client.v1.customers.create({})
            except stripe.APIError:
                outcomes.append(True)
            else:
                outcomes.append(False)
        return outcomes

    first = struck()
    assert first == struck()
    assert 0 < sum(first) < 20


def test_a_fault_may_spare_the_first_requests(client, sandbox):
    sandbox.faults({"kind": "reject", "skip": 1})
    assert client.v1.customers.create({}).id
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({})


def test_rate_limits_are_off_until_set_and_then_count_by_the_second(client, sandbox):
    made, customer = catalogue(client), sari(client)
    sandbox.post("settings", limits={"endpoint_per_s": 2, "global_per_s": 3, "meter_events_per_s": 1})
    sandbox.advance(1)
    for _ in range(2):
        client.v1.customers.retrieve(customer.id)
    with pytest.raises(stripe.RateLimitError) as limited:
        client.v1.customers.retrieve(customer.id)
    assert limited.value.headers["stripe-rate-limited-reason"] == "endpoint-rate"
    client.v1.billing.meter_events.create(event_of(made.event_name, customer.id, 1, NOON))
    with pytest.raises(stripe.RateLimitError):
        client.v1.billing.meter_events.create(event_of(made.event_name, customer.id, 1, NOON))
    sandbox.advance(1)
    assert client.v1.customers.retrieve(customer.id).id == customer.id


def test_all_endpoints_together_have_a_limit_that_meter_events_do_not_share(client, sandbox):
    made, customer = catalogue(client), sari(client)
    sandbox.post("settings", limits={"global_per_s": 2})
    sandbox.advance(1)
    client.v1.customers.retrieve(customer.id)
    client.v1.prices.retrieve(made.basic.id)
    with pytest.raises(stripe.RateLimitError) as limited:
        client.v1.billing.meters.retrieve(made.meter.id)
    assert limited.value.headers["stripe-rate-limited-reason"] == "global-rate"
    client.v1.billing.meter_events.create(event_of(made.event_name, customer.id, 1, NOON))


def test_a_wrong_rule_is_refused_in_words(sandbox):
    status, _, body = sandbox.send("POST", "/_sandbox/faults", '{"rules": [{"kind": "earthquake"}]}')
    assert status == 400
    assert "earthquake" in body


def test_a_page_of_another_name_cannot_drive_the_sandbox(sandbox):
    status, _, body = sandbox.send("GET", "/_sandbox/state", headers={"Host": "evil.example"})
    assert (status, "this machine" in body) == (403, True)


@pytest.mark.skipif(not STRIPE_TEST_KEY, reason="needs STRIPE_TEST_KEY")
def test_stripe_itself_takes_a_meter_event_and_shows_it_in_a_summary(client):
    made, customer = catalogue(client), sari(client)
    now = int(time.time())
    client.v1.billing.meter_events.create(event_of(made.event_name, customer.id, 25, now))
    params = {"customer": customer.id, "start_time": now - now % 60 - 60, "end_time": now - now % 60 + 60}
    deadline = time.monotonic() + 120
    while client.v1.billing.meters.event_summaries.list(made.meter.id, params).data[0].aggregated_value != 25:
        assert time.monotonic() < deadline
        time.sleep(5)
