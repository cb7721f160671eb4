"""A customer at Stripe, and whether anything can be sent for it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.errors import NusagateError

ACCOUNT_KEY = "nusagate_account"
"""The metadata under which customers and subscriptions name their account, for people who look at Stripe's pages."""


class CustomerState(StrEnum):
    """Whether Stripe knows the customer."""

    ACTIVE = "active"
    PARKED = "parked"
    """Deleted at Stripe: nothing is sent for the account until it has another customer."""


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """Who an account is at Stripe; every customer that replaces a deleted one is a new ``generation``."""

    account_id: UUID
    customer_id: str
    generation: int
    state: CustomerState
    parked_reason: str | None
    changed_at: datetime


class CustomerTaken(NusagateError):
    """This customer of Stripe's belongs to another account."""

    code = "customer_taken"


class CustomerUnknown(NusagateError):
    """Stripe does not know this customer, or it was deleted there."""

    code = "customer_unknown"
