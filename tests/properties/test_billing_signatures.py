"""No body and no header is taken for one of Stripe's unless Stripe signed it."""

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from billing.webhooks.signature import WebhookRefused, verify

NOW = 1_795_000_000
SECRET = "whsec_test"
BODY = b'{"id": "evt_1", "type": "invoice.paid"}'
HEADER = stripe.WebhookSignature.generate_signature_header(
    payload=BODY.decode(), secret=SECRET, timestamp=NOW
)


def refused(body, text, match=None):
    with pytest.raises(WebhookRefused, match=match):
        verify(body, text, SECRET, now_s=NOW)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_body_with_one_other_byte_is_refused(place, change):
    forged = bytearray(BODY)
    forged[place] ^= change
    refused(bytes(forged), HEADER, match="No signature fits")


@given(st.text(max_size=200))
def test_no_text_is_accepted_by_chance(text):
    refused(BODY, text)
