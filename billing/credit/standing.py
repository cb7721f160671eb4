"""Whether an account has credit that is worth anything, which decides about its plan."""

from uuid import UUID

from billing.caps import store as caps
from billing.caps.model import rates_until, tokens_for
from billing.credit import store
from billing.credit.model import USED_UP_TOKENS
from gateway.clock import Clock
from gateway.db.pool import Db


async def has_credit(db: Db, clock: Clock, account_id: UUID) -> bool:
    """Tell whether an account's credit buys more than a few tokens at the highest price."""
    now = clock.now()
    balance, left = await store.find_balance(db, account_id), await store.left(db, account_id, now)
    if balance is None or left is None:
        return False
    rates = await caps.rates_max(db, now, rates_until(now))
    return tokens_for(left, rates.get(balance[1], 0)) >= USED_UP_TOKENS
