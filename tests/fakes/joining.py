"""Makes accounts with a key each, by the code of whichever version is imported; also as a program of its own.

``python tests/fakes/joining.py DATABASE_URL PEPPER '[["free", 10000], ["payg", null]]'`` prints what it made, so that a
test can have accounts that an older version made.
"""

import asyncio
import json
import secrets
import sys

import asyncpg

from gateway.accounts import service as accounts
from gateway.accounts.model import LimitName
from gateway.clock import SystemClock
from gateway.keys import service as keys
from gateway.keys.model import KeyScopes
from gateway.runtime.settings import parse_secrets
from gateway.units import Currency


async def join(database_url: str, pepper: str, plans: list[tuple[str, int | None]]) -> list[tuple[str, str]]:
    """Make one account for each plan, with this month limit and no other; return the accounts' ids and keys."""
    clock = SystemClock()
    made = []
    connection = await asyncpg.connect(database_url)
    try:
        for plan, month_limit in plans:
            account = await accounts.create(
                connection,
                clock,
                email=f"{plan}-{secrets.token_hex(8)}@example.com",
                plan_id=plan,
                currency=Currency.IDR,
            )
            await accounts.set_limits(
                connection,
                account.account_id,
                overrides={
                    LimitName.REQUESTS_PER_MINUTE: None,
                    LimitName.TOKENS_PER_MINUTE: None,
                    LimitName.CONCURRENCY: None,
                    LimitName.MONTHLY_TOKENS: month_limit,
                },
            )
            key = await keys.create_key(
                connection,
                clock,
                parse_secrets("NUSAGATE_KEY_PEPPER", pepper),
                account_id=account.account_id,
                scopes=KeyScopes(),
            )
            made.append((str(account.account_id), key.text))
    finally:
        await connection.close()
    return made


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(join(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
