"""What is said to Stripe, in our own types, for those who need not know its SDK."""

from datetime import datetime

import msgspec


class MeterEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What one meter event says: ``value`` units of the meter for a customer, at a moment of whole seconds."""

    event_name: str
    identifier: str
    event_at: datetime
    customer_id: str
    value: int
