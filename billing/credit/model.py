"""Transfers of credit, each named by what caused it, so that it happens once; amounts in pico-currency."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from gateway.clock import Month
from gateway.errors import NusagateError
from gateway.units import Currency

USED_UP_TOKENS = 256
"""Credit that buys fewer tokens than this at the highest price admits hardly any request: it counts as used up."""
POST_EVERY_S = 3_600
"""Usage is written into the journal once an hour, not once a request."""


class Side(StrEnum):
    """Our side of a transfer: where money came from, or where it went."""

    PAID_IN = "paid_in"
    GRANTED = "granted"
    USED = "used"
    TAKEN_BACK = "taken_back"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """So much to an account's balance (below zero: from it), and as much less on our side."""

    key: str
    owner_id: UUID
    currency: Currency
    side: Side
    amount_pico: int
    reason: str
    actor: str


class MonthOfUse(msgspec.Struct, frozen=True, kw_only=True):
    """A month of a prepaid account: what its usage came to, and how much of that the journal knows."""

    period: Month
    billable_pico: int
    seen_pico: int
    pending_pico: int
    drawn_pico: int
    posted_at: datetime


class CreditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a balance, as its owner sees it."""

    transfer_key: str
    amount_pico: int
    reason: str
    actor: str
    created_at: datetime


class CreditView(msgspec.Struct, frozen=True, kw_only=True):
    """A balance: what the journal says, less what was used since its last entry; exact decimals."""

    account_id: UUID
    currency: Currency
    balance: str
    latest: tuple[CreditEntry, ...]


class NoCredit(NusagateError):
    """The account has never had credit."""

    code = "no_credit"


class CreditCurrencyMismatch(NusagateError):
    """The account's credit is in another currency."""

    code = "credit_currency_mismatch"
