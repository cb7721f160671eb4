"""A password that is replaced opens nothing more, also for whoever proved it a moment before."""

from datetime import timedelta

import msgspec
import pytest

from admin.access import entering, sessions
from admin.access.door import Caller
from admin.access.model import LoginNeeded
from admin.access.totp import code_at, step_of
from tests.plugins.portal import PASSWORD, path_of, second_factor

SARI = "sari@example.com"
NEW = "teh manis panas sekali"


@pytest.fixture
async def sari_inside(portal):
    return await portal.browser().join(SARI)


class Meanwhile:
    """A hasher that says whether a password is right, and before anybody hears that, something else happens, once."""

    def __init__(self, hasher, happen) -> None:
        self.hasher = hasher
        self.happen = [happen]

    def is_outdated(self, kept):
        return self.hasher.is_outdated(kept)

    async def hash(self, password):
        return await self.hasher.hash(password)

    async def verify(self, password, kept):
        matches = await self.hasher.verify(password, kept)
        if self.happen:
            await self.happen.pop()()
        return matches


async def reset_meanwhile(portal) -> None:
    """Let the password be replaced by the link of a mail in the middle of whatever asks for it next."""
    owner = portal.browser(network="192.0.2.8")
    await owner.post("/reset", email=SARI)
    token = (await portal.link(SARI)).partition("token=")[2]

    async def reset() -> None:
        portal.clock.move(timedelta(seconds=1))
        answer = await owner.post("/reset/new", fields={"token": token, "password": NEW})
        assert path_of(answer) == "/login"

    door = portal.parts.door
    door = msgspec.structs.replace(door, hasher=Meanwhile(door.hasher, reset))
    portal.app.framework.state["parts"] = msgspec.structs.replace(portal.parts, door=door)


async def test_nobody_slips_in_with_a_password_while_it_is_replaced(portal, sari_inside):
    await reset_meanwhile(portal)
    assert (await portal.browser().login(SARI, PASSWORD)).status_code == 403
    assert await portal.db.fetchval("SELECT count(*) FROM portal_session WHERE ended_at IS NULL") == 0


async def test_nobody_changes_a_password_back_while_it_is_replaced(portal, sari_inside):
    await reset_meanwhile(portal)
    answer = await sari_inside.post("/settings/password", current=PASSWORD, password="es cendol dingin siang")
    assert answer.status_code == 403
    assert path_of(await portal.browser().login(SARI, NEW)) == "/usage"


async def test_nobody_switches_the_second_factor_off_while_the_password_is_replaced(portal, sari_inside):
    await second_factor(portal, sari_inside)
    await reset_meanwhile(portal)
    assert (await sari_inside.post("/settings/second-factor/off", password=PASSWORD)).status_code == 403
    assert path_of(await portal.browser().login(SARI, NEW)) == "/login/code"


async def test_a_login_that_waits_for_its_code_is_over_when_it_was_ended_meanwhile(portal, sari_inside):
    secret, _ = await second_factor(portal, sari_inside)
    portal.clock.move(timedelta(minutes=1))
    other, door = portal.browser(), portal.parts.door
    await other.login(SARI)
    token = other.client.cookies["nusagate_session"]
    waiting = await sessions.find_session(door, portal.db, token)
    await sessions.end_all(door, portal.db, waiting.person.person_id)
    code = code_at(secret, step_of(portal.clock.now()))
    caller = Caller(network="192.0.2.1", agent="", browser_token="x")
    async with portal.db.acquire() as connection:
        with pytest.raises(LoginNeeded):
            await entering.pass_second_factor(door, connection, waiting, code, caller)
