"""Signing up: one answer for everybody, one account for whoever follows the link, and limits against abuse."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest

from admin.jobs import forget
from admin.web import pace
from gateway.accounts import service as accounts
from gateway.units import Currency
from tests.plugins.portal import PASSWORD, Portal, path_of, portal_settings, text_of

SARI = "sari@example.com"


async def people(portal) -> list[tuple[str, str]]:
    rows = await portal.db.fetch(
        "SELECT p.email, a.plan_id FROM person p JOIN account a USING (account_id) ORDER BY p.email"
    )
    return [(row["email"], row["plan_id"]) for row in rows]


async def test_nobody_exists_before_the_link_was_followed(portal):
    browser = portal.browser()
    answer = await browser.post("/signup", email=" Sari@Example.com ", password=PASSWORD)
    assert path_of(answer) == "/signup/sent"
    assert SARI in text_of(answer)
    assert await people(portal) == []
    answer = await browser.get(await portal.link(SARI))
    assert path_of(answer) == "/start"
    assert await people(portal) == [(SARI, "free")]


async def test_a_known_address_gets_the_same_answer_and_another_letter(portal):
    await portal.browser().join(SARI)
    stranger = portal.browser(network="192.0.2.2")
    known = await stranger.post("/signup", email=SARI, password="another long password")
    other = portal.browser(network="192.0.2.3")
    new = await other.post("/signup", email="budi@example.com", password="another long password")
    assert text_of(known).replace(SARI, "budi@example.com") == text_of(new)
    assert (await portal.letters(SARI))[0].startswith("You already have an account")
    assert "/verify" not in (await portal.letters(SARI))[0]
    assert path_of(await stranger.login(SARI, "another long password")) == "/login"


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/signup", {"email": SARI, "password": PASSWORD}), ("/signup/resend", {}), ("/reset", {"email": SARI})],
)
async def test_what_would_tell_by_its_time_whether_an_address_is_known_waits_out_a_time(
    portal, monkeypatch, path, fields
):
    browser = portal.browser()
    await browser.post("/signup", email=SARI, password=PASSWORD)
    waits = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(pace, "asyncio", SimpleNamespace(sleep=note))
    await browser.post(path, fields=fields)
    assert len(waits) == 1


async def test_another_browser_must_know_the_password(portal):
    await portal.browser().post("/signup", email=SARI, password=PASSWORD)
    phone = portal.browser(network="198.51.100.1")
    link = await portal.link(SARI)
    assert "enter the password that you chose" in text_of(await phone.get(link))
    assert await people(portal) == []
    token = link.partition("token=")[2]
    wrong = await phone.post("/verify", fields={"token": token, "password": "not this password"})
    assert "not the password that you chose" in text_of(wrong)
    right = await phone.post("/verify", fields={"token": token, "password": PASSWORD})
    assert path_of(right) == "/start"


async def test_the_password_is_the_one_of_the_sign_up_whose_link_was_followed(portal):
    mallory, sari = portal.browser(network="203.0.113.9"), portal.browser()
    await sari.post("/signup", email=SARI, password=PASSWORD)
    link = await portal.link(SARI)
    await mallory.post("/signup", email=SARI, password="the choice of mallory")
    assert path_of(await sari.get(link)) == "/start"
    assert path_of(await mallory.login(SARI, "the choice of mallory")) == "/login"
    assert path_of(await portal.browser(network="192.0.2.9").login(SARI)) == "/usage"


async def test_a_link_works_once_and_for_a_day(portal):
    browser = portal.browser()
    await browser.post("/signup", email=SARI, password=PASSWORD)
    link = await portal.link(SARI)
    portal.clock.move(timedelta(hours=24))
    assert (await browser.get(link)).status_code == 410
    await browser.post("/signup", email=SARI, password=PASSWORD)
    link = await portal.link(SARI)
    assert path_of(await browser.get(link)) == "/start"
    assert (await portal.browser().get(link)).status_code == 410
    assert path_of(await browser.get(link)) == "/usage"


async def test_a_link_that_nobody_was_sent_is_over(portal):
    assert (await portal.browser().get("/verify?token=guessed")).status_code == 410


async def test_another_mail_may_be_asked_for_after_a_minute_and_ends_the_link_before(portal):
    browser = portal.browser()
    await browser.post("/signup", email=SARI, password=PASSWORD)
    first = await portal.link(SARI)
    assert (await browser.post("/signup/resend")).status_code == 429
    portal.clock.move(timedelta(seconds=60))
    assert "on its way" in text_of(await browser.post("/signup/resend"))
    assert len(await portal.letters(SARI)) == 2
    second = await portal.link(SARI)
    assert (await browser.get(first)).status_code == 410
    assert path_of(await browser.get(second)) == "/start"


async def test_mail_is_not_sent_for_ever(portal):
    browser = portal.browser()
    await browser.post("/signup", email=SARI, password=PASSWORD)
    for _ in range(6):
        portal.clock.move(timedelta(minutes=2))
        await browser.post("/signup/resend")
    assert len(await portal.letters(SARI)) == portal.settings.limits.mails_per_sign_up == 5


@pytest.mark.parametrize(
    ("email", "password", "said"),
    [
        ("sari", PASSWORD, "This is not an e-mail address."),
        ("sari@mailinator.com", PASSWORD, "throw-away"),
        (SARI, "too short", "at least 15 characters"),
        (SARI, "passwordpassword", "easy to guess"),
    ],
)
async def test_what_cannot_be_is_said_at_its_field(portal, email, password, said):
    answer = await portal.browser().post("/signup", email=email, password=password)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert 'aria-invalid="true"' in answer.text
    assert await portal.letters(email) == []


async def test_one_network_asks_for_so_many_accounts_a_day(seeded, clock):
    portal = Portal(seeded, clock, portal_settings(NUSAGATE_SIGN_UPS_PER_NETWORK_DAILY="2"))
    for number in range(2):
        assert path_of(
            await portal.browser().post("/signup", email=f"a{number}@example.com", password=PASSWORD)
        ) == ("/signup/sent")
    assert (
        await portal.browser().post("/signup", email="a3@example.com", password=PASSWORD)
    ).status_code == 429
    elsewhere = portal.browser(network="198.51.100.7")
    assert (
        path_of(await elsewhere.post("/signup", email="a4@example.com", password=PASSWORD)) == "/signup/sent"
    )
    clock.move(timedelta(days=1, seconds=1))
    assert (
        path_of(await portal.browser().post("/signup", email="a5@example.com", password=PASSWORD))
        == "/signup/sent"
    )


async def test_one_mailbox_gets_so_many_links_a_month_however_it_is_spelt(portal):
    spellings = ["sari@gmail.com", "s.ari@gmail.com", "sari+x@gmail.com", "sari+y@gmail.com"]
    for number, email in enumerate(spellings):
        answer = await portal.browser(network=f"192.0.2.{number}").post(
            "/signup", email=email, password=PASSWORD
        )
        assert path_of(answer) == "/signup/sent"
    assert [len(await portal.letters(email)) for email in spellings] == [1, 1, 1, 0]


async def test_asking_again_gets_no_mail_for_what_got_none(portal):
    for number in range(3):
        await portal.browser(network=f"192.0.2.{number}").post("/signup", email=SARI, password=PASSWORD)
    browser = portal.browser(network="192.0.2.3")
    await browser.post("/signup", email=SARI, password=PASSWORD)
    portal.clock.move(timedelta(minutes=1))
    assert "on its way" in text_of(await browser.post("/signup/resend"))
    assert len(await portal.letters(SARI)) == 3


async def test_a_stranger_who_asks_later_takes_no_mail_from_who_asked_before(portal):
    sari = portal.browser()
    await sari.post("/signup", email=SARI, password=PASSWORD)
    for number in range(2, 6):
        await portal.browser(network=f"192.0.2.{number}").post("/signup", email=SARI, password=PASSWORD)
    portal.clock.move(timedelta(minutes=1))
    await sari.post("/signup/resend")
    assert path_of(await sari.get(await portal.link(SARI))) == "/start"


async def test_a_mailbox_has_one_account_however_it_is_spelt(portal):
    await portal.browser().join("sari@gmail.com")
    portal.clock.move(timedelta(days=70))
    await forget(portal.db, portal.clock, portal.settings.limits.kept_days)
    for spelling in ("s.ari@gmail.com", "sari+two@googlemail.com"):
        browser = portal.browser(network="192.0.2.8")
        answer = await browser.post("/signup", email=spelling, password=PASSWORD)
        assert path_of(answer) == "/signup/sent"
        (letter,) = await portal.letters(spelling)
        assert letter.startswith("This mailbox has had its account")
        assert "/verify" not in letter
    assert await people(portal) == [("sari@gmail.com", "free")]


@pytest.mark.parametrize(
    "email", ["1,sari@gmail.com", "x<sari@gmail.com>", "sari@gmail.com.", "(1)sari@gmail.com"]
)
async def test_a_mailbox_is_not_spelt_as_a_header_would_take_it(portal, email):
    answer = await portal.browser().post("/signup", email=email, password=PASSWORD)
    assert "This is not an e-mail address" in text_of(answer)


async def test_of_two_spellings_that_wait_the_first_whose_link_is_followed_has_the_account(portal):
    first, second = portal.browser(), portal.browser(network="192.0.2.8")
    await first.post("/signup", email="sari@gmail.com", password=PASSWORD)
    await second.post("/signup", email="s.ari@gmail.com", password=PASSWORD)
    assert path_of(await second.get(await portal.link("s.ari@gmail.com"))) == "/start"
    assert (await first.get(await portal.link("sari@gmail.com"))).status_code == 410
    assert await people(portal) == [("s.ari@gmail.com", "free")]


async def test_leaving_does_not_give_a_mailbox_another_account(portal):
    sari = await portal.browser().join(SARI)
    await sari.post("/settings/close", email=SARI)
    for spelling in (SARI, "sari+again@example.com"):
        await portal.browser(network="192.0.2.8").post("/signup", email=spelling, password=PASSWORD)
        assert (await portal.letters(spelling))[0].startswith("This mailbox has had its account")


async def test_a_network_that_asked_too_often_gets_no_hash_computed(seeded, clock):
    portal = Portal(seeded, clock, portal_settings(NUSAGATE_SIGN_UPS_PER_NETWORK_DAILY="1"))
    await portal.browser().post("/signup", email=SARI, password=PASSWORD)
    # A hasher that is missing would be noticed.
    portal.app.framework.state["parts"] = msgspec.structs.replace(
        portal.parts, door=msgspec.structs.replace(portal.parts.door, hasher=None)
    )
    answer = await portal.browser().post("/signup", email="budi@example.com", password=PASSWORD)
    assert answer.status_code == 429


def with_budget(seeded, clock, tokens: int) -> Portal:
    return Portal(seeded, clock, portal_settings(NUSAGATE_FREE_BUDGET_TOKENS=str(tokens)))


async def test_sign_ups_pause_when_the_free_budget_is_given_away(seeded, clock):
    portal = with_budget(seeded, clock, 19_999)
    await portal.browser().join(SARI)
    answer = await portal.browser().post("/signup", email="budi@example.com", password=PASSWORD)
    assert answer.status_code == 503
    assert "free plan is full" in text_of(answer)
    assert (await portal.browser().get("/signup")).status_code == 503
    assert path_of(await portal.browser().login(SARI)) == "/usage"


async def test_links_that_were_mailed_before_do_not_pass_the_budget_and_stay_good(seeded, clock):
    portal = with_budget(seeded, clock, 29_999)
    browsers = {f"a{number}@example.com": portal.browser(network=f"192.0.2.{number}") for number in range(5)}
    for email, browser in browsers.items():
        await browser.post("/signup", email=email, password=PASSWORD)
    links = {email: await portal.link(email) for email in browsers}
    answers = await asyncio.gather(*(browser.get(links[email]) for email, browser in browsers.items()))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert len(await people(portal)) == 2
    clock.move(timedelta(hours=1))
    inside = {email for email, _ in await people(portal)}
    waiting = next(email for email in browsers if email not in inside)
    larger = with_budget(seeded, clock, 30_000)
    browsers[waiting].client._transport.app = larger.app
    assert path_of(await browsers[waiting].get(links[waiting])) == "/start"


async def test_an_account_that_is_closed_keeps_its_share_until_the_month_is_over(seeded, clock):
    portal = with_budget(seeded, clock, 10_000)
    sari = await portal.browser().join(SARI)
    await sari.post("/settings/close", email=SARI)
    assert (await portal.browser().get("/signup")).status_code == 503
    clock.move(timedelta(days=31))
    assert (await portal.browser().get("/signup")).status_code == 200


async def test_the_budget_counts_what_an_operator_set_for_an_account(seeded, clock):
    portal = with_budget(seeded, clock, 25_000)
    await portal.browser().join(SARI)
    for limits, status in (
        ('{"monthly_tokens": 20000}', 503), ('{"monthly_tokens": 15000}', 200), ('{"monthly_tokens": null}', 200),
    ):  # fmt: skip
        await seeded.execute("UPDATE account SET limits = $1::text::jsonb", limits)
        assert (await portal.browser().get("/signup")).status_code == status, limits


async def test_a_free_plan_without_a_limit_fits_into_no_budget(seeded, clock):
    portal = with_budget(seeded, clock, 10**12)
    await seeded.execute("UPDATE plan SET monthly_tokens = NULL WHERE plan_id = 'free'")
    assert (await portal.browser().get("/signup")).status_code == 503


async def test_an_account_that_an_operator_made_becomes_its_owners(portal):
    account = await accounts.create(portal.db, portal.clock, email=SARI, plan_id="pro", currency=Currency.IDR)
    await portal.browser().join(SARI)
    found = await portal.db.fetchval("SELECT account_id FROM person WHERE email = $1", SARI)
    assert found == account.account_id
    assert await people(portal) == [(SARI, "pro")]


async def test_the_letter_is_in_the_language_of_the_visitor(portal):
    browser = portal.browser(**{"accept-language": "id-ID,id;q=0.9,en;q=0.5"})
    await browser.post("/signup", email=SARI, password=PASSWORD)
    assert (await portal.letters(SARI))[0].startswith("Pastikan alamat surel Anda")


async def test_links_come_from_configuration_and_never_from_host(portal):
    browser = portal.browser()
    lies = {"host": "evil.example", "x-forwarded-host": "evil.example"}
    await browser.post("/signup", headers=lies, email=SARI, password=PASSWORD)
    assert (await portal.link(SARI)).startswith("/verify?token=")
    assert "evil.example" not in (await portal.letters(SARI))[0]
