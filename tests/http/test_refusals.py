"""What was refused is told by the account's own usage, a few seconds later, by the reason that the client was given."""

import asyncio

from gateway.accounts import service as accounts
from gateway.accounts.model import AccountStatus, LimitName
from gateway.clock import monotonic_s
from tests.http.asking import CHAT, RESPONSES, ask, bearer, send

TOLD_WITHIN_S = 20
POLL_S = 0.2


async def told(http, person, wanted):
    """Ask for the account's usage until it tells of these refusals."""
    deadline_s = monotonic_s() + TOLD_WITHIN_S
    while True:
        rows = http.get("/v1/usage", headers=bearer(person)).json()["refused"]
        found = {row["reason"]: row["requests"] for row in rows}
        if found == wanted:
            return
        assert monotonic_s() < deadline_s, f"told {found}"
        await asyncio.sleep(POLL_S)


async def test_refusals_are_counted_by_the_limit_or_the_code(http, people):
    person = await people.join("sari", limits={LimitName.REQUESTS_PER_MINUTE: 2}, models=("nusantara-base",))
    for _ in range(4):
        ask(http, person, CHAT, "Halo [[sim output=1]]")
    send(http, person, RESPONSES, b"{")
    await told(http, person, {"requests_per_minute": 2, "invalid_json": 1})


async def test_a_refusal_before_a_key_may_be_used_is_counted_too(http, people):
    person = await people.join("sari")
    assert ask(http, person, CHAT, "Halo [[sim output=1]]").status == 200
    await accounts.set_status(people.db, person.account_id, AccountStatus.SUSPENDED)
    deadline_s = monotonic_s() + TOLD_WITHIN_S
    while ask(http, person, CHAT, "Halo [[sim output=1]]").status == 200:
        assert monotonic_s() < deadline_s
        await asyncio.sleep(POLL_S)
    await accounts.set_status(people.db, person.account_id, AccountStatus.ACTIVE)
    while (
        rows := await people.db.fetch(
            "SELECT reason FROM refusal_hourly WHERE account_id = $1", person.account_id
        )
    ) == []:
        assert monotonic_s() < deadline_s
        await asyncio.sleep(POLL_S)
    assert [row["reason"] for row in rows] == ["account_suspended"]
