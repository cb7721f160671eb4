"""Every error of Stripe's that an operator can meet has its line in the runbook, and the runbook names no other."""

import inspect
import re

import pytest

from billing.customers import service as customers
from billing.stripe import client, errors
from billing.sync import model, service
from billing.webhooks import signature
from billing.webhooks.http import BodyTooLarge
from billing.webhooks.model import MalformedEvent

CODE = re.compile(r"`([a-z][a-z0-9_]+)`")
ROW = re.compile(r"^\| (`.+?`) \|", re.MULTILINE)


def all_kinds(kind):
    return {kind} | {found for child in kind.__subclasses__() for found in all_kinds(child)}


def of_stripe():
    """The codes of our own classes; the base class is never raised."""
    return {kind.code for kind in all_kinds(errors.StripeError) - {errors.StripeError}}


def of_batches():
    """What a batch's ``last_error`` may say besides."""
    source = inspect.getsource(model.screen)
    return {model.NEVER_SENT_TOO_OLD, model.UNKNOWN_FOR_TOO_LONG, *re.findall(r'error="(\w+)"', source)}


def reported_later():
    """Stripe's own codes that decide something here."""
    return (
        client.NO_METER_CODES | client.NO_CUSTOMER_CODES | client.TIMESTAMP_CODES | service.NO_CUSTOMER_CODES
    )


def of_webhooks():
    return {kind.code for kind in (signature.WebhookRefused, BodyTooLarge, MalformedEvent)}


def in_the_runbook(root):
    text = (root / "deploy/runbooks/stripe.md").read_text()
    return {code for row in ROW.findall(text) for code in CODE.findall(row)}


@pytest.mark.parametrize("codes", [of_stripe, of_batches, reported_later, of_webhooks])
def test_every_error_has_a_line(root, codes):
    assert codes() - in_the_runbook(root) == set()


def test_a_parked_account_has_a_line(root):
    page = (root / "deploy/runbooks/StripeAccountsParked.md").read_text()
    assert f"`{customers.DELETED}`" in page
    assert f"`{errors.StripeNoCustomer.code}`" in page


def test_no_line_is_about_an_error_of_ours_that_is_not_there(root):
    ours = of_stripe() | of_batches() | of_webhooks()
    named = {code for code in in_the_runbook(root) if code.startswith(("stripe_", "webhook_"))}
    assert named - ours == set()
