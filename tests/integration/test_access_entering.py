"""Logging in: slowed for who guesses, never locked for who owns; sessions, second factor, new passwords."""

import asyncio
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from admin.access import entering
from admin.access.door import Caller
from admin.access.model import LoginRefused
from admin.access.totp import code_at, step_of
from gateway.keys import service as keys
from tests.plugins.portal import PASSWORD, path_of, second_factor, text_of, token_of

SARI = "sari@example.com"
WRONG = "not the right password"
NEW = "teh manis panas sekali"


@pytest.fixture
async def sari_inside(portal):
    return await portal.browser().join(SARI)


# ---------------------------------------------------------------- passwords


async def test_the_right_password_opens_and_a_wrong_one_says_as_little_as_an_unknown_address(
    portal, sari_inside
):
    wrong = await portal.browser().login(SARI, WRONG)
    unknown = await portal.browser().login("nobody@example.com", WRONG)
    assert wrong.status_code == unknown.status_code == 403
    assert text_of(wrong) == text_of(unknown)
    assert path_of(await portal.browser().login(" SARI@example.com", PASSWORD)) == "/usage"


async def test_guesses_from_elsewhere_wait_longer_and_longer(portal, sari_inside):
    guesser = portal.browser(network="203.0.113.1")
    statuses = [(await guesser.login(SARI, WRONG)).status_code for _ in range(7)]
    assert statuses == [403, 403, 403, 403, 403, 429, 429]
    portal.clock.move(timedelta(seconds=1))
    assert (await guesser.login(SARI, WRONG)).status_code == 403
    portal.clock.move(timedelta(seconds=1))
    answer = await guesser.login(SARI, PASSWORD)
    assert answer.status_code == 429
    assert "wait 1 seconds" in text_of(answer)


class Counting:
    """Counts what is asked of a hasher, which does it all the same."""

    def __init__(self, hasher) -> None:
        self.hasher = hasher
        self.verified = 0

    async def verify(self, password, kept):
        self.verified += 1
        return await self.hasher.verify(password, kept)


async def work_of(portal, email: str) -> tuple[list[str], int]:
    """The statements and the number of hashes that a wrong login costs."""
    counting, asked = Counting(portal.parts.door.hasher), []
    door = msgspec.structs.replace(portal.parts.door, hasher=counting)
    caller = Caller(network="203.0.113.1", agent="", browser_token="x")
    async with portal.db.acquire() as connection:
        with connection.query_logger(lambda record: asked.append(record.query)), pytest.raises(LoginRefused):
            await entering.check_password(door, connection, email=email, password=WRONG, caller=caller)
    return asked, counting.verified


async def test_an_unknown_address_costs_the_same_work_as_a_known_one(portal, sari_inside):
    known, unknown = await work_of(portal, SARI), await work_of(portal, "nobody@example.com")
    assert known == unknown
    assert (len(known[0]), known[1]) == (4, 1)


async def test_a_closed_account_costs_the_same_work_and_answers_the_same(portal, sari_inside):
    known = await work_of(portal, SARI)
    await sari_inside.post("/settings/close", email=SARI)
    assert await work_of(portal, SARI) == known


async def test_an_unknown_address_is_slowed_in_the_same_way(portal):
    guesser = portal.browser(network="203.0.113.1")
    statuses = [(await guesser.login("nobody@example.com", WRONG)).status_code for _ in range(6)]
    assert statuses == [403, 403, 403, 403, 403, 429]


async def test_an_owner_does_not_wait_for_what_strangers_try(portal, sari_inside):
    guesser = portal.browser(network="203.0.113.1")
    for _ in range(8):
        await guesser.login(SARI, WRONG)
    assert path_of(await portal.browser().login(SARI)) == "/usage"


async def test_an_owner_does_not_wait_for_neighbours_who_guess_at_others(portal, sari_inside):
    neighbour = portal.browser()
    csrf = await neighbour.token()
    for number in range(32):
        await neighbour.post("/login", csrf=csrf, email=f"a{number}@example.com", password=WRONG)
    assert (await neighbour.login("a99@example.com", WRONG)).status_code == 429
    assert path_of(await portal.browser().login(SARI)) == "/usage"


async def test_guesses_from_a_network_that_the_owner_uses_are_slowed_as_well(portal, sari_inside):
    statuses = [(await portal.browser().login(SARI, WRONG)).status_code for _ in range(6)]
    assert statuses == [403, 403, 403, 403, 403, 429]
    portal.clock.move(timedelta(seconds=30))
    assert path_of(await portal.browser().login(SARI)) == "/usage"


async def test_a_new_network_of_the_owner_waits_half_a_minute_at_the_most(portal, sari_inside):
    guesser = portal.browser(network="203.0.113.1")
    for _ in range(30):
        await guesser.login(SARI, WRONG)
        portal.clock.move(timedelta(seconds=31))
    elsewhere = portal.browser(network="198.51.100.1")
    assert path_of(await elsewhere.login(SARI)) == "/usage"


async def test_one_network_that_guesses_many_addresses_waits_too(portal):
    guesser = portal.browser(network="203.0.113.1")
    token = await guesser.token()
    statuses = [
        (await guesser.post("/login", csrf=token, email=f"a{number}@example.com", password=WRONG)).status_code
        for number in range(32)
    ]
    assert statuses == [403] * 30 + [429] * 2


# ---------------------------------------------------------------- sessions


async def test_a_session_is_new_at_every_login_and_kept_as_a_digest_only(portal, sari_inside):
    first = token_of(sari_inside)
    await sari_inside.post("/logout")
    await sari_inside.login(SARI)
    second = token_of(sari_inside)
    assert first != second
    rows = await portal.db.fetch("SELECT * FROM portal_session")
    assert len(rows) == 2
    assert not any(token in str(list(row.values())) for token in (first, second) for row in rows)


async def test_a_login_ends_the_session_that_the_browser_had(portal, sari_inside):
    before = token_of(sari_inside)
    await sari_inside.login(SARI)
    thief = portal.browser()
    thief.client.cookies.set("nusagate_session", before)
    assert path_of(await thief.get("/usage")) == "/login"
    assert path_of(await sari_inside.get("/usage")) == "/usage"


async def test_a_session_ends_when_it_is_idle_and_when_it_is_old(portal, sari_inside):
    for _ in range(4):
        portal.clock.move(timedelta(days=6))
        assert path_of(await sari_inside.get("/usage")) == "/usage"
    portal.clock.move(timedelta(days=6))
    assert path_of(await sari_inside.get("/usage")) == "/login"
    await sari_inside.login(SARI)
    portal.clock.move(timedelta(days=7))
    assert path_of(await sari_inside.get("/usage")) == "/login"


async def test_leaving_ends_the_session_not_only_the_cookie(portal, sari_inside):
    token = token_of(sari_inside)
    await sari_inside.post("/logout")
    thief = portal.browser()
    thief.client.cookies.set("nusagate_session", token)
    assert path_of(await thief.get("/usage")) == "/login"


async def test_sessions_are_listed_and_ended_one_by_one_or_together(portal, sari_inside):
    laptop, phone = (
        portal.browser(),
        portal.browser(**{"user-agent": "Mozilla/5.0 (Linux; Android 16) Firefox/150.0"}),
    )
    await laptop.login(SARI)
    await phone.login(SARI)
    assert "Firefox, Android" in text_of(await sari_inside.get("/settings"))
    phones = await portal.db.fetchval("SELECT session_id FROM portal_session WHERE agent LIKE '%Firefox%'")
    await sari_inside.post(f"/settings/sessions/{phones}/end")
    assert path_of(await phone.get("/usage")) == "/login"
    assert path_of(await laptop.get("/usage")) == "/usage"
    await sari_inside.post("/settings/sessions/end-others")
    assert path_of(await laptop.get("/usage")) == "/login"
    assert path_of(await sari_inside.get("/usage")) == "/usage"


async def test_keys_ask_for_the_password_again_after_a_quarter_of_an_hour(portal, sari_inside):
    assert path_of(await sari_inside.get("/keys/new")) == "/keys/new"
    portal.clock.move(timedelta(minutes=15))
    asked = await sari_inside.get("/keys/new")
    assert path_of(asked) == "/confirm"
    assert (await sari_inside.post("/confirm", password=WRONG, next="/keys/new")).status_code == 403
    assert path_of(await sari_inside.post("/confirm", password=PASSWORD, next="/keys/new")) == "/keys/new"


# ---------------------------------------------------------------- second factor


async def test_the_second_factor_is_asked_for_after_the_password(portal, sari_inside):
    secret, _ = await second_factor(portal, sari_inside)
    other = portal.browser()
    assert path_of(await other.login(SARI)) == "/login/code"
    assert path_of(await other.get("/usage")) == "/login"
    assert (await other.post("/login/code", code="000000")).status_code == 422
    portal.clock.move(timedelta(seconds=30))
    before = token_of(other)
    code = code_at(secret, step_of(portal.clock.now()))
    assert path_of(await other.post("/login/code", code=code)) == "/usage"
    assert token_of(other) != before


async def test_a_code_counts_once(portal, sari_inside):
    secret, _ = await second_factor(portal, sari_inside)
    portal.clock.move(timedelta(seconds=30))
    code = code_at(secret, step_of(portal.clock.now()))
    first, second = portal.browser(), portal.browser()
    await first.login(SARI)
    await second.login(SARI)
    assert path_of(await first.post("/login/code", code=code)) == "/usage"
    assert (await second.post("/login/code", code=code)).status_code == 422


async def test_guessing_codes_becomes_slow(portal, sari_inside):
    await second_factor(portal, sari_inside)
    other = portal.browser()
    await other.login(SARI)
    statuses = [(await other.post("/login/code", code="000000")).status_code for _ in range(7)]
    assert statuses == [422, 422, 422, 422, 422, 429, 429]


async def test_a_recovery_code_opens_once(portal, sari_inside):
    _, codes = await second_factor(portal, sari_inside)
    assert len(codes) == 10
    first, second = portal.browser(), portal.browser()
    await first.login(SARI)
    await second.login(SARI)
    assert path_of(await first.post("/login/code", code=codes[0].upper())) == "/usage"
    assert (await second.post("/login/code", code=codes[0])).status_code == 422
    assert "9 recovery codes left" in text_of(await first.get("/settings"))


async def test_the_secret_of_the_app_and_the_codes_are_not_in_the_database(portal, sari_inside):
    secret, codes = await second_factor(portal, sari_inside)
    rows = [
        *await portal.db.fetch("SELECT * FROM person"),
        *await portal.db.fetch("SELECT * FROM recovery_code"),
    ]
    kept = str([list(row.values()) for row in rows])
    assert str(secret) not in kept
    assert not any(code.replace("-", "") in kept for code in codes)


async def test_the_second_factor_is_on_only_after_its_first_code(portal, sari_inside):
    await sari_inside.get("/settings/second-factor")
    assert (await sari_inside.post("/settings/second-factor", code="000000")).status_code == 422
    assert path_of(await portal.browser().login(SARI)) == "/usage"


async def test_it_can_be_switched_off(portal, sari_inside):
    await second_factor(portal, sari_inside)
    assert "alone" in text_of(await sari_inside.get("/settings/second-factor/off"))
    wrong = await sari_inside.post("/settings/second-factor/off", password=WRONG)
    assert "This is not your password" in text_of(wrong)
    assert path_of(await portal.browser().login(SARI)) == "/login/code"
    answer = await sari_inside.post("/settings/second-factor/off", password=PASSWORD)
    assert "The second factor is off" in text_of(answer)
    assert path_of(await portal.browser().login(SARI)) == "/usage"
    assert await portal.db.fetchval("SELECT count(*) FROM recovery_code") == 0
    assert (await portal.letters(SARI))[0].startswith("Your second factor was turned off")


async def test_a_short_password_may_not_be_left_alone(portal, sari_inside):
    await second_factor(portal, sari_inside)
    await sari_inside.post("/settings/password", current=PASSWORD, password="8 chars!")
    answer = await sari_inside.post("/settings/second-factor/off", password="8 chars!")
    assert answer.status_code == 422
    assert "at least 15 characters" in text_of(answer)
    assert path_of(await portal.browser().login(SARI, "8 chars!")) == "/login/code"


async def test_codes_that_are_renewed_twice_at_once_are_those_of_one_time(portal, sari_inside):
    await second_factor(portal, sari_inside)
    csrf = await sari_inside.token("/settings")
    await asyncio.gather(*(sari_inside.post("/settings/recovery", csrf=csrf) for _ in range(4)))
    assert await portal.db.fetchval("SELECT count(*) FROM recovery_code") == 10


async def test_codes_of_before_are_over_when_new_ones_are_made(portal, sari_inside):
    _, before = await second_factor(portal, sari_inside)
    await sari_inside.post("/settings/recovery")
    other = portal.browser()
    await other.login(SARI)
    assert (await other.post("/login/code", code=before[0])).status_code == 422


# ---------------------------------------------------------------- new passwords, leaving


async def test_a_forgotten_password_is_replaced_by_a_link_that_works_once(portal, sari_inside):
    browser = portal.browser(network="192.0.2.8")
    await browser.post("/reset", email=SARI)
    link = await portal.link(SARI)
    token = link.partition("token=")[2]
    assert (await browser.post("/reset/new", fields={"token": token, "password": "short"})).status_code == 422
    answer = await browser.post("/reset/new", fields={"token": token, "password": NEW})
    assert path_of(answer) == "/login"
    assert (await browser.post("/reset/new", fields={"token": token, "password": NEW})).status_code == 410
    assert path_of(await sari_inside.get("/usage")) == "/login"
    assert (await browser.login(SARI, PASSWORD)).status_code == 403
    assert path_of(await browser.login(SARI, NEW)) == "/usage"
    assert (await portal.letters(SARI))[0].startswith("Your password was changed")


async def test_a_reset_link_lasts_half_an_hour(portal, sari_inside):
    await portal.browser().post("/reset", email=SARI)
    portal.clock.move(timedelta(minutes=30))
    assert (await portal.browser().get(await portal.link(SARI))).status_code == 410


async def test_nobody_learns_from_a_reset_who_is_known(portal, sari_inside):
    known = await portal.browser().post("/reset", email=SARI)
    unknown = await portal.browser().post("/reset", email="nobody@example.com")
    assert known.status_code == unknown.status_code == 200
    assert text_of(known).replace(SARI, "nobody@example.com") == text_of(unknown)
    assert await portal.letters("nobody@example.com") == []


async def test_resets_are_mailed_five_times_a_day(portal, sari_inside):
    for _ in range(7):
        await portal.browser().post("/reset", email=SARI)
    resets = [letter for letter in await portal.letters(SARI) if letter.startswith("Choose a new password")]
    assert len(resets) == 5


async def test_one_network_that_asks_for_links_waits(portal):
    browser = portal.browser()
    csrf = await browser.token()
    statuses = [
        (await browser.post("/reset", csrf=csrf, email=f"a{number}@example.com")).status_code
        for number in range(12)
    ]
    assert statuses == [200] * 10 + [429] * 2
    assert (await portal.browser(network="192.0.2.9").post("/reset", email=SARI)).status_code == 200


async def test_a_password_is_changed_with_the_current_one_and_others_are_logged_out(portal, sari_inside):
    other = portal.browser()
    await other.login(SARI)
    wrong = await sari_inside.post("/settings/password", current=WRONG, password=NEW)
    assert "This is not your password" in text_of(wrong)
    assert ('id="current-wrong"' in wrong.text, 'id="password-wrong"' in wrong.text) == (True, False)
    answer = await sari_inside.post("/settings/password", current=PASSWORD, password=NEW)
    assert "Your password is changed" in text_of(answer)
    assert path_of(await other.get("/usage")) == "/login"
    assert path_of(await sari_inside.get("/usage")) == "/usage"
    assert path_of(await portal.browser().login(SARI, NEW)) == "/usage"


async def test_a_reset_link_is_over_when_the_password_was_changed_from_inside(portal, sari_inside):
    await portal.browser().post("/reset", email=SARI)
    link = await portal.link(SARI)
    await sari_inside.post("/settings/password", current=PASSWORD, password=NEW)
    assert (await portal.browser().get(link)).status_code == 410


async def test_a_second_factor_allows_a_shorter_password(portal, sari_inside):
    await second_factor(portal, sari_inside)
    answer = await sari_inside.post("/settings/password", current=PASSWORD, password="8 chars!")
    assert "Your password is changed" in text_of(answer)


async def test_closing_an_account_stops_its_keys_and_its_owner(portal, sari_inside):
    await sari_inside.post("/start/key")
    other = portal.browser()
    await other.login(SARI)
    assert (await sari_inside.post("/settings/close", email="budi@example.com")).status_code == 422
    answer = await sari_inside.post("/settings/close", email=SARI)
    assert "Your account is closed" in text_of(answer)
    assert path_of(await other.get("/usage")) == "/login"
    assert (await other.login(SARI)).status_code == 403
    account_id = await portal.db.fetchval("SELECT account_id FROM account WHERE email = $1", SARI)
    found = await keys.list_keys(portal.db, account_id)
    assert [key.revoked_at is not None for key in found] == [True]
    assert await portal.db.fetchval("SELECT status FROM account WHERE email = $1", SARI) == "suspended"


async def test_closing_an_account_deletes_what_is_no_bill(portal, sari_inside):
    await second_factor(portal, sari_inside)
    await portal.browser().post("/reset", email=SARI)
    account_id = await portal.db.fetchval("SELECT account_id FROM account WHERE email = $1", SARI)
    for owner in (account_id, UUID(int=9)):
        await portal.db.execute(
            "INSERT INTO stored_response VALUES ($1, $2, now(), now() + interval '1 day', NULL, 'm', '[]', '{}')",
            f"resp_{owner}", owner,
        )  # fmt: skip
    assert (await sari_inside.post("/settings/close", email=SARI)).status_code == 200
    for table in ("portal_session", "recovery_code", "password_reset"):
        assert await portal.db.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await portal.db.fetchval("SELECT array_agg(account_id) FROM stored_response") == [UUID(int=9)]
    person = await portal.db.fetchrow("SELECT password_hash, totp_nonce, totp_since, email FROM person")
    assert tuple(person) == ("", None, None, SARI)
    trace = await portal.db.fetchrow("SELECT email, network, password_hash FROM sign_up")
    assert tuple(trace) == ("", "", "")


async def test_an_account_whose_plan_is_paid_is_not_closed_before_that_ends(portal, sari_inside):
    account_id = await portal.db.fetchval("SELECT account_id FROM account WHERE email = $1", SARI)
    await portal.db.execute(
        """
        INSERT INTO stripe_subscription (subscription_id, account_id, customer_id, status, plan_id, started_at,
            period_start, period_end, asked_at)
        VALUES ('sub_1', $1, 'cus_1', 'active', 'pro', $2, $2, $2, $2)
        """,
        account_id, portal.clock.now(),
    )  # fmt: skip
    refused = await sari_inside.post("/settings/close", email=SARI)
    assert (refused.status_code, "still paid for" in text_of(refused)) == (409, True)
    assert path_of(await sari_inside.get("/usage")) == "/usage"
    await portal.db.execute("UPDATE stripe_subscription SET cancel_at = period_end")
    assert "Your account is closed" in text_of(await sari_inside.post("/settings/close", email=SARI))
