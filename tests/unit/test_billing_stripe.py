"""Stripe's errors in our words, its money, and what a process refuses to start without."""

from datetime import UTC, datetime

import msgspec
import pytest
import stripe

from billing.settings import StripeLimits, StripeSettings, load_stripe_settings
from billing.stripe.client import translate
from billing.stripe.clock import plan_clock
from billing.stripe.errors import (
    Effect,
    StripeBusy,
    StripeConflict,
    StripeDeclined,
    StripeDuplicate,
    StripeFault,
    StripeForbidden,
    StripeKeyMisused,
    StripeMissing,
    StripeNoCustomer,
    StripeNoMeter,
    StripeRefused,
    StripeTimestampRefused,
    StripeUnreachable,
)
from billing.stripe.invoices import metered_lines
from billing.stripe.money import STRIPE_MONEY
from gateway.errors import ConfigurationError
from gateway.units import PICO_PER_UNIT, Currency

SECRETS = {"NUSAGATE_STRIPE_SECRET_KEY": "sk_test_1", "NUSAGATE_STRIPE_WEBHOOK_SECRET": "whsec_1"}


def invalid(message, code=None, **headers):
    return stripe.InvalidRequestError(message, None, code=code, http_status=400, headers=headers)


@pytest.mark.parametrize(
    ("error", "kind", "effect"),
    [
        (stripe.APIConnectionError("x"), StripeUnreachable, Effect.UNKNOWN),
        (stripe.APIError("x", http_status=500), StripeFault, Effect.UNKNOWN),
        (stripe.APIError("x", http_status=503), StripeFault, Effect.UNKNOWN),
        (stripe.APIError("not JSON", http_status=200), StripeFault, Effect.UNKNOWN),
        (stripe.APIError("key in use", http_status=409), StripeConflict, Effect.UNKNOWN),
        (stripe.RateLimitError("x", http_status=429), StripeBusy, Effect.NONE),
        (stripe.AuthenticationError("x", http_status=401), StripeForbidden, Effect.NONE),
        (stripe.PermissionError("x", http_status=403), StripeForbidden, Effect.NONE),
        (stripe.IdempotencyError("x", http_status=400), StripeKeyMisused, Effect.NONE),
        (stripe.CardError("x", None, "card_declined", http_status=402), StripeDeclined, Effect.NONE),
        (invalid("An event already exists with identifier a."), StripeDuplicate, Effect.DONE),
        (invalid("x", "duplicate_meter_event"), StripeDuplicate, Effect.DONE),
        (invalid("No such customer: 'cus_1'", "resource_missing"), StripeNoCustomer, Effect.NONE),
        (invalid("x", "meter_event_customer_not_found"), StripeNoCustomer, Effect.NONE),
        (invalid("No such price: 'p'", "resource_missing"), StripeMissing, Effect.NONE),
        (invalid("No such event: 'evt_1'", "not_found"), StripeMissing, Effect.NONE),
        (invalid("No active meter found with event name x."), StripeNoMeter, Effect.NONE),
        (invalid("x", "archived_meter"), StripeNoMeter, Effect.NONE),
        (invalid("x", "timestamp_too_far_in_past"), StripeTimestampRefused, Effect.NONE),
        (invalid("x", "meter_event_invalid_value"), StripeRefused, Effect.NONE),
        (invalid("x"), StripeRefused, Effect.NONE),
    ],
)
def test_every_error_of_stripe_has_a_class_and_a_known_effect(error, kind, effect):
    ours = translate(error)
    assert (type(ours), ours.effect) == (kind, effect)


def test_what_the_headers_say_is_kept():
    headers = {
        "retry-after": "7", "stripe-should-retry": "false", "idempotent-replayed": "true", "request-id": "req_1",
    }  # fmt: skip
    answer = translate(stripe.APIError("x", http_status=500, headers=headers)).answer
    assert (answer.retry_after_s, answer.should_retry, answer.replayed, answer.request_id) == (
        7, False, True, "req_1",
    )  # fmt: skip


@pytest.mark.parametrize(("given", "read"), [("soon", None), ("-1", None), ("999999", 3600)])
def test_a_wait_that_is_none_is_ignored_and_a_long_one_is_cut(given, read):
    error = stripe.RateLimitError("x", http_status=429, headers={"retry-after": given})
    assert translate(error).answer.retry_after_s == read


def test_rupiah_have_two_decimals_at_stripe():
    assert {currency: money.minor_exponent for currency, money in STRIPE_MONEY.items()} == {
        Currency.USD: 2, Currency.IDR: 2,
    }  # fmt: skip


def test_meters_count_micro_dollars_and_milli_rupiah():
    assert STRIPE_MONEY[Currency.USD].meter_unit_pico == PICO_PER_UNIT // 1_000_000
    assert STRIPE_MONEY[Currency.IDR].meter_unit_pico == PICO_PER_UNIT // 1_000
    assert STRIPE_MONEY[Currency.USD].unit_amount_decimal == "0.0001"
    assert STRIPE_MONEY[Currency.IDR].unit_amount_decimal == "0.1"


def test_without_a_key_there_is_no_stripe():
    assert load_stripe_settings({}) is None
    assert load_stripe_settings({"NUSAGATE_STRIPE_WEBHOOK_SECRET": "whsec_1"}) is None


@pytest.mark.parametrize("secret", [None, "", "whsec_", "secret"])
def test_an_empty_or_odd_webhook_secret_refuses_to_start(secret):
    environ = {"NUSAGATE_STRIPE_SECRET_KEY": "sk_test_1"}
    if secret is not None:
        environ["NUSAGATE_STRIPE_WEBHOOK_SECRET"] = secret
    with pytest.raises(ConfigurationError, match="NUSAGATE_STRIPE_WEBHOOK_SECRET"):
        load_stripe_settings(environ)


def test_a_publishable_key_is_refused():
    with pytest.raises(ConfigurationError, match="NUSAGATE_STRIPE_SECRET_KEY"):
        load_stripe_settings({**SECRETS, "NUSAGATE_STRIPE_SECRET_KEY": "pk_live_1"})


def test_the_pace_follows_from_the_kind_of_key():
    def pace(key, **more):
        return load_stripe_settings({**SECRETS, "NUSAGATE_STRIPE_SECRET_KEY": key, **more}).events_per_s

    assert pace("rk_live_1") == 400
    assert pace("sk_test_1") == 20
    assert pace("sk_test_1", NUSAGATE_STRIPE_EVENTS_PER_S="7") == 7


def test_only_a_sandbox_on_this_machine_has_a_time_of_its_own(tmp_path, clock):
    file = tmp_path / "clock"
    environ = {**SECRETS, "NUSAGATE_STRIPE_SECRET_KEY": "sk_test_1", "NUSAGATE_STRIPE_CLOCK_FILE": str(file)}
    for elsewhere in ({}, {"NUSAGATE_STRIPE_API_BASE": "https://stripe.example"}):
        with pytest.raises(ConfigurationError, match="NUSAGATE_STRIPE_CLOCK_FILE"):
            load_stripe_settings({**environ, **elsewhere})
    settings = load_stripe_settings({**environ, "NUSAGATE_STRIPE_API_BASE": "http://127.0.0.1:12111"})
    clock.moment = datetime(2026, 11, 10, tzinfo=UTC)
    assert plan_clock(clock, msgspec.structs.replace(settings, clock_file=None)) is clock
    followed = plan_clock(clock, settings)
    assert followed.now() == clock.moment
    file.write_text("86400")
    assert followed.now() == datetime(2026, 11, 11, tzinfo=UTC)
    file.write_text("soon")
    with pytest.raises(ConfigurationError, match="clock"):
        followed.now()


def test_settings_show_no_secret():
    settings = StripeSettings(secret_key="sk_live_x", webhook_secret="whsec_x", limits=StripeLimits())
    assert "sk_live" not in repr(settings)


def test_metered_lines_of_an_invoice_are_summed_over_tiers_and_others_left_out():
    def line(price, quantity):
        return {
            "pricing": {"price_details": {"price": price}},
            "period": {"start": 1_793_491_200, "end": 1_796_083_200},
            "quantity_decimal": quantity,
        }

    invoice = {
        "id": "in_1", "customer": "cus_1", "currency": "idr",
        "lines": {"data": [line("spend", "10"), line("spend", "5"), line("flat", "1"), {**line("x", "1"), "pricing": None}]},
    }  # fmt: skip
    (found,) = metered_lines(invoice, {"spend"})
    assert (found.customer_id, found.currency, found.quantity) == ("cus_1", Currency.IDR, 15)
